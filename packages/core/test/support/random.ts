/** Numbers in [0, 1) that are the same in every run: xorshift32. */
export function seededRandom(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

const NAMES = [
  'From',
  'To',
  'CallSid',
  'Body',
  'a',
  'A',
  'aa',
  '10',
  '9',
  'é',
  '\u{1f600}',
  '\uff5e',
  'q[0]',
  'a b',
  '',
]
const VALUES = [
  '',
  '1',
  '2',
  '+15550100001',
  'Ünï & co = 50% +1',
  'a\r\nb',
  "it's",
  '\u{1f600}',
  '\u0000',
  '{"a":1}',
  '.',
  ':',
]

/** A form as providers and attackers might send it: repeated, empty and odd names, some escapes that mean nothing. */
export function randomForm(random: () => number): string {
  const pick = (from: string[]) => from[Math.floor(random() * from.length)]!
  const fields = Array.from({ length: 1 + Math.floor(random() * 8) }, (): [string, string] => [
    pick(NAMES),
    pick(VALUES),
  ])
  const form = new URLSearchParams(fields).toString()
  return random() < 0.1 ? `${form}&x=${pick(['%', '%zz', '%ff%fe', '%C3', '=', '%2', 'é'])}` : form
}
