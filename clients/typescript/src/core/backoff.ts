/** The longest pause between two attempts, in milliseconds. */
export const BACKOFF_MAX = 30_000
const BACKOFF_FIRST = 1_000
const BACKOFF_MIN = 100

/**
 * Milliseconds to wait before attempt number `attempt` (1 is the first after a loss). The whole span is random: clients
 * that lost the same server must not come back together.
 */
export function backoff(attempt: number, random: number, max: number = BACKOFF_MAX): number {
  const span = Math.min(max, BACKOFF_FIRST * 2 ** Math.max(0, attempt - 1))
  return Math.max(BACKOFF_MIN, Math.round(span * random))
}
