/** The first `maxLength` UTF-16 units of `text` as Postgres takes them: U+FFFD stands for U+0000 and for lone surrogates. */
export function storableText(text: string, maxLength: number): string {
  return text.slice(0, maxLength).replaceAll('\u0000', '\ufffd').toWellFormed()
}
