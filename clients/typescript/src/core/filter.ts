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

const compare = (operator: string, column: string, value: FilterValue): string => `${column}=${operator}.${literal(value)}`

// One object of plain functions, so that programs that write no filters do not carry them.
export const filter = {
  eq: (column: string, value: FilterValue): string => compare('eq', column, value),
  neq: (column: string, value: FilterValue): string => compare('neq', column, value),
  lt: (column: string, value: FilterValue): string => compare('lt', column, value),
  lte: (column: string, value: FilterValue): string => compare('lte', column, value),
  gt: (column: string, value: FilterValue): string => compare('gt', column, value),
  gte: (column: string, value: FilterValue): string => compare('gte', column, value),
  like: (column: string, value: FilterValue): string => compare('like', column, value),
  ilike: (column: string, value: FilterValue): string => compare('ilike', column, value),
  match: (column: string, value: FilterValue): string => compare('match', column, value),
  imatch: (column: string, value: FilterValue): string => compare('imatch', column, value),
  isDistinct: (column: string, value: FilterValue): string => compare('isdistinct', column, value),
  is: (column: string, value: null | boolean | 'unknown'): string => `${column}=is.${value}`,
  /** Elements are those of an array literal, so each is quoted. */
  oneOf: (column: string, values: readonly FilterValue[]): string => `${column}=in.(${values.map((value) => quote(String(value))).join(',')})`,
  /** The opposite of one condition. */
  not: (condition: string): string => condition.replace('=', '=not.'),
  /** All of these. */
  all: (...conditions: string[]): string => conditions.join(','),
}
