/**
 * Filters of a subscription as text, the grammar of PROTOCOL.md. Values are quoted where the grammar needs it, so that
 * no value can change the meaning of the filter.
 */
export type FilterValue = string | number | bigint | boolean

/** A value that is one quoted run means the text inside. */
function literal(value: FilterValue): string {
  const text = String(value)
  return /^$|[,()"\\]|^\s|\s$/.test(text) ? quote(text) : text
}

function quote(text: string): string {
  return `"${text.replace(/[\\"]/g, '\\$&')}"`
}

const compare =
  (operator: string) =>
  (column: string, value: FilterValue): string =>
    `${column}=${operator}.${literal(value)}`

export const eq = compare('eq')
export const neq = compare('neq')
export const lt = compare('lt')
export const lte = compare('lte')
export const gt = compare('gt')
export const gte = compare('gte')
export const like = compare('like')
export const ilike = compare('ilike')
export const match = compare('match')
export const imatch = compare('imatch')
export const isDistinct = compare('isdistinct')

export function is(column: string, value: null | boolean | 'unknown'): string {
  return `${column}=is.${value}`
}

/** Elements are those of an array literal, so each is quoted. */
export function oneOf(column: string, values: readonly FilterValue[]): string {
  return `${column}=in.(${values.map((value) => quote(String(value))).join(',')})`
}

/** The opposite of one condition. */
export function not(condition: string): string {
  return condition.replace('=', '=not.')
}

/** All of these. */
export function all(...conditions: string[]): string {
  return conditions.join(',')
}
