import { backoff } from './backoff'
import type { Clock } from './clock'
import { readEventStream, type StreamEvent } from './event-stream'
import { type ChangeEntry, type Cursor, readMessage, type ServerMessage } from './protocol'
import { RelayError, toRelayError } from './relay-error'

export interface StreamHost {
  readonly clock: Clock
  readonly fetch: typeof fetch
  /** Where the relay is, without a slash at its end. */
  readonly url: string
  loadToken(): Promise<string | null>
  refreshToken(): Promise<string | null>
}

/** Milliseconds until the first bytes; longer means that something in between holds them back. */
const FIRST_BYTES_TIMEOUT = 10_000
/** Milliseconds without a sign of life; the server gives one every 15 s. */
const SILENCE_TIMEOUT = 45_000

/** One entry of a subscription over Server-Sent Events, begun again after every loss from the newest cursor. */
export class ChangeStream {
  readonly #host: StreamHost
  readonly #entry: ChangeEntry
  readonly #cursor: () => Cursor | 'now'
  readonly #tell: (message: ServerMessage) => void
  readonly #failed: (error: RelayError) => void
  #abort = new AbortController()
  #watchdog: unknown
  #timer: unknown
  #attempt = 0
  #closed = false

  constructor(
    host: StreamHost,
    entry: ChangeEntry,
    cursor: () => Cursor | 'now',
    tell: (message: ServerMessage) => void,
    failed: (error: RelayError) => void,
  ) {
    this.#host = host
    this.#entry = entry
    this.#cursor = cursor
    this.#tell = tell
    this.#failed = failed
    void this.#run()
  }

  close(): void {
    this.#closed = true
    this.#host.clock.clearTimeout(this.#timer)
    this.#host.clock.clearTimeout(this.#watchdog)
    this.#abort.abort()
  }

  async #run(): Promise<void> {
    const { clock } = this.#host
    this.#abort = new AbortController()
    try {
      const token = await this.#host.loadToken()
      if (this.#closed) return
      this.#watch(FIRST_BYTES_TIMEOUT, new RelayError('blocked', 'the event stream is held back', { retryable: true }))
      const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {}
      const init = { signal: this.#abort.signal, headers, cache: 'no-store' as const }
      await readEventStream(this.#host.fetch, this.#url(), init, (events) => {
        if (this.#closed) return
        this.#watch(SILENCE_TIMEOUT, new RelayError('timeout', 'the event stream fell silent', { retryable: true }))
        for (const event of events) this.#receive(event)
      })
    } catch (cause) {
      if (this.#closed) return
      clock.clearTimeout(this.#watchdog)
      let error = this.#abort.signal.aborted ? toRelayError(this.#abort.signal.reason) : toRelayError(cause)
      if (error.code === 'unreachable' && this.#attempt > 0 && (await this.#isServerThere())) {
        error = new RelayError('blocked', 'the event stream does not get through', { retryable: true, cause: error })
      }
      if (error.code === 'auth_required') await this.#host.refreshToken().catch(() => null)
      if (this.#closed) return
      this.#failed(error)
      if (this.#closed) return
      this.#timer = clock.setTimeout(() => void this.#run(), backoff(++this.#attempt, clock.random(), 10_000))
    }
  }

  /** Some networks end event streams at once and let everything else through. */
  async #isServerThere(): Promise<boolean> {
    try {
      return (await this.#host.fetch(`${this.#host.url}/healthz`, { cache: 'no-store' })).ok
    } catch {
      return false
    }
  }

  #watch(delay: number, error: RelayError): void {
    const { clock } = this.#host
    clock.clearTimeout(this.#watchdog)
    this.#watchdog = clock.setTimeout(() => this.#abort.abort(error), delay)
  }

  #receive({ name, id, data }: StreamEvent): void {
    const payload: unknown = JSON.parse(data)
    const message = readMessage(name === 'message' ? 'postgres_changes' : 'system', payload)
    if (!message) return
    this.#attempt = 0
    if (message.kind === 'channel_error') return this.#abort.abort(new RelayError('auth_required', message.message, { retryable: true }))
    if (message.kind === 'change') message.change.cursor ??= id
    this.#tell(message)
  }

  #url(): string {
    const { schema = 'public', table, filter, event = '*', select } = this.#entry
    const query = new URLSearchParams({ table: `${schema}.${table}`, event, since: this.#cursor() })
    if (filter) query.set('filter', filter)
    if (select) query.set('select', select.join(','))
    return `${this.#host.url}/events?${query}`
  }
}
