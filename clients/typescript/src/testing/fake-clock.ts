import type { Clock } from '../core/clock'

interface Timer {
  at: number
  run: () => void
}

/** A clock that stands still until it is told to go on. */
export class FakeClock implements Clock {
  #now: number
  #next = 1
  readonly #timers = new Map<number, Timer>()
  readonly #pause: (run: () => void) => unknown
  /** What `random` gives; half of the span by default, so that backoff is half of its longest. */
  randomValue = 0.5

  constructor(now: number = Date.UTC(2026, 0, 1)) {
    this.#now = now
    const later = globalThis.setTimeout
    this.#pause = (run) => later(run, 0)
  }

  now = (): number => this.#now
  random = (): number => this.randomValue

  setTimeout = (run: () => void, delay = 0): number => {
    this.#timers.set(this.#next, { at: this.#now + Math.max(0, delay), run })
    return this.#next++
  }

  clearTimeout = (timer: unknown): void => {
    this.#timers.delete(timer as number)
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#timers.size
  }

  /** Lets everything that is already due happen: promises, messages, streams. */
  async settle(): Promise<void> {
    for (let round = 0; round < 3; round++) await new Promise<void>((resolve) => this.#pause(resolve))
  }

  /** Goes on by `duration` milliseconds; timers run when they are due, each with what it sets off. */
  async advance(duration: number): Promise<void> {
    const end = this.#now + duration
    await this.settle()
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end).sort(([a, x], [b, y]) => x.at - y.at || a - b)[0]
      if (!due) break
      this.#now = Math.max(this.#now, due[1].at)
      this.#timers.delete(due[0])
      due[1].run()
      await this.settle()
    }
    this.#now = end
    await this.settle()
  }

  /** Moves time without running timers, as a device that sleeps. */
  sleep(duration: number): void {
    this.#now += duration
  }

  /** Makes the platform's timers run on this clock too. Returns the undo. */
  install(): () => void {
    const { setTimeout, clearTimeout } = globalThis
    const { now } = Date
    Object.assign(globalThis, { setTimeout: this.setTimeout, clearTimeout: this.clearTimeout })
    Date.now = this.now
    return () => {
      Object.assign(globalThis, { setTimeout, clearTimeout })
      Date.now = now
    }
  }
}
