/** Small drawings in the colour of the text around them. They say nothing to screen readers: words stand beside them. */
const PATHS = {
  clock: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 2.5V8l2.5 1.5',
  check: 'm3 8.5 3 3 6.5-7',
  checks: 'm1 8.5 3 3L10.5 4.5M7 10.5l1 1 6.5-7',
  cross: 'm4 4 8 8m0-8-8 8',
  send: 'M2 8h11M8.5 3 14 8l-5.5 5',
  down: 'M8 3v10m-4.5-4.5L8 13l4.5-4.5',
  info: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 5v4M8 5v.1',
}

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg className="pgr-icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill="none" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  )
}
