/** One bar: the median and the range of the runs. */
export interface Bar {
  label: string
  value: number
  least?: number
  greatest?: number
  /** Drawn in the accent colour. */
  isOwn?: boolean
}

const WIDTH = 760
const LABELS_WIDTH = 270
const VALUES_WIDTH = 130
const TOP = 52
const ROW_HEIGHT = 28
const BAR_HEIGHT = 16

// The colours follow the colour scheme of the page or the system, as far as it is known.
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .note { fill: #59636e; font-size: 12px }
  .bar { fill: #8c959f }
  .own { fill: #0969da }
  .spread { stroke: #1f2328; stroke-width: 1.5 }
  .paper { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .bar { fill: #656c76 }
    .own { fill: #4493f8 }
    .spread { stroke: #e6edf3 }
    .paper { fill: #0d1117 }
  }`

/** An SVG of horizontal bars, each with its number. A line across the end of a bar shows least and greatest. */
export function barChart(title: string, note: string, bars: readonly Bar[], format: (value: number) => string): string {
  const scale =
    (WIDTH - LABELS_WIDTH - VALUES_WIDTH) / Math.max(...bars.map(({ value, greatest }) => greatest ?? value))
  const height = TOP + bars.length * ROW_HEIGHT + 12
  const rows = bars.map((bar, index) => row(bar, TOP + index * ROW_HEIGHT, scale, format))
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(title)}">
<style>${STYLE}
</style>
<rect class="paper" width="${WIDTH}" height="${height}" rx="6"/>
<text class="title" x="16" y="24">${escape(title)}</text>
<text class="note" x="16" y="42">${escape(note)}</text>
${rows.join('\n')}
</svg>
`
}

function row(
  { label, value, least, greatest, isOwn }: Bar,
  y: number,
  scale: number,
  format: (value: number) => string,
) {
  const middle = y + ROW_HEIGHT / 2
  const x = (of: number) => (LABELS_WIDTH + of * scale).toFixed(1)
  const spread =
    least === undefined || greatest === undefined || least === greatest
      ? ''
      : `<path class="spread" d="M${x(least)} ${middle}H${x(greatest)}M${x(least)} ${middle - 4}v8M${x(greatest)} ${middle - 4}v8"/>`
  return [
    `<text x="${LABELS_WIDTH - 10}" y="${middle + 4.5}" text-anchor="end">${escape(label)}</text>`,
    `<rect class="${isOwn ? 'own' : 'bar'}" x="${LABELS_WIDTH}" y="${middle - BAR_HEIGHT / 2}" width="${(value * scale).toFixed(1)}" height="${BAR_HEIGHT}" rx="2"/>`,
    spread,
    `<text x="${(LABELS_WIDTH + Math.max(value, greatest ?? 0) * scale + 8).toFixed(1)}" y="${middle + 4.5}">${escape(format(value))}</text>`,
  ].join('')
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
