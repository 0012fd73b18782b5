/**
 * Time and chance, as everything here sees them. Tests pass a clock of their own, so that a minute of backoff takes no
 * time and every run is the same.
 */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  /** Calls `run` once, after `delay` milliseconds. */
  setTimeout(run: () => void, delay: number): unknown
  clearTimeout(timer: unknown): void
  /** At least 0, below 1. */
  random(): number
}

export const systemClock: Clock = {
  now: () => Date.now(),
  setTimeout: (run, delay) => globalThis.setTimeout(run, delay),
  clearTimeout: (timer) => globalThis.clearTimeout(timer as number),
  random: () => Math.random(),
}
