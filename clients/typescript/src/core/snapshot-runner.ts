import { backoff } from './backoff'
import type { Clock } from './clock'
import { type RelayError, toRelayError } from './relay-error'

/**
 * Loads the state that changes build on, until it succeeds. Only the newest run counts: one that was overtaken tells
 * nothing.
 */
export class SnapshotRunner<Snapshot> {
  readonly #clock: Clock
  readonly #load: (signal: AbortSignal) => Promise<Snapshot>
  #abort: AbortController | undefined
  #timer: unknown

  constructor(clock: Clock, load: (signal: AbortSignal) => Promise<Snapshot>) {
    this.#clock = clock
    this.#load = load
  }

  get isRunning(): boolean {
    return this.#abort !== undefined
  }

  run(done: (snapshot: Snapshot) => void, failed: (error: RelayError) => void, attempt = 1): void {
    this.stop()
    const abort = (this.#abort = new AbortController())
    this.#load(abort.signal).then(
      (snapshot) => {
        if (abort !== this.#abort) return
        this.#abort = undefined
        done(snapshot)
      },
      (cause: unknown) => {
        if (abort !== this.#abort) return
        const error = toRelayError(cause)
        failed(error)
        if (abort !== this.#abort) return
        const delay = backoff(error.retryable ? attempt : 6, this.#clock.random())
        this.#timer = this.#clock.setTimeout(() => this.run(done, failed, attempt + 1), delay)
      },
    )
  }

  stop(): void {
    this.#clock.clearTimeout(this.#timer)
    this.#abort?.abort()
    this.#abort = undefined
  }
}
