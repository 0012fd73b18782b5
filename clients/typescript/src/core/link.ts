import { type Channel, Socket } from 'phoenix'

import { BACKOFF_MAX, backoff } from './backoff'
import type { Clock } from './clock'
import type { Undo } from './listeners'
import { RelayError } from './relay-error'
import { decodeFrame, encodeFrame, type Frame } from './serializer'

/** A constructor of WebSockets: the browser's, Node's from 22 on, or the one of package `ws`. */
export type WebSocketConstructor = new (url: string, protocols?: string | string[]) => WebSocket

export type LinkState =
  | { kind: 'idle' }
  | { kind: 'connecting'; attempt: number }
  | { kind: 'open' }
  /** `attempt` is the number of the one to come; 1 after the connection was lost. */
  | { kind: 'waiting'; attempt: number; retryAt: number; error: RelayError }

export interface LinkOptions {
  /** Without the `/websocket` at its end. */
  endpoint: string
  webSocket: WebSocketConstructor | undefined
  clock: Clock
  /** What the device says. It may be wrong, so attempts go on while it says no, but seldom. */
  isOnline: () => boolean
  /** Awaited before every attempt, so that each carries a good key. */
  loadParams: () => Promise<Record<string, string>>
  onState: (state: LinkState) => void
  log: (message: string, data?: unknown) => void
}

/** Milliseconds that a connection may take to open. */
const OPEN_TIMEOUT = 10_000
const HEARTBEAT_INTERVAL = 25_000
/** Milliseconds after which a heartbeat without an answer means that the connection is dead. */
const HEARTBEAT_TIMEOUT = 10_000
/** The same after waking up, when the connection is under suspicion. */
const CHECK_TIMEOUT = 3_000
const JOIN_TIMEOUT = 10_000

/** The phoenix client without its own ideas about when to reconnect: this module has those. */
class QuietSocket extends Socket {
  /** Missing from its types. */
  declare replaceTransport: (transport: WebSocketConstructor) => void

  handleVisibilityChange(): void {}
}

/**
 * One WebSocket connection that is always wanted while started. phoenix keeps the channels; when to connect, how long
 * to wait and whether the connection is alive is decided here, on the injected clock, also while the page is hidden.
 */
export class Link {
  readonly #options: LinkOptions
  #state: LinkState = { kind: 'idle' }
  #socket: QuietSocket | undefined
  #params: Record<string, string> = {}
  /** Grows with every attempt, so that what belongs to an earlier one is recognised. */
  #generation = 0
  readonly #waiting = new Set<() => void>()
  #timer: unknown
  #heartbeat: unknown
  #latency: number | null = null

  constructor(options: LinkOptions) {
    this.#options = options
  }

  get state(): LinkState {
    return this.#state
  }

  /** Milliseconds the last heartbeat took. */
  get latency(): number | null {
    return this.#latency
  }

  start(): void {
    if (this.#state.kind === 'idle') void this.#connect(1)
  }

  stop(): void {
    this.#generation++
    this.#clearTimers()
    this.#socket?.disconnect()
    this.#enter({ kind: 'idle' })
  }

  /** Does not wait any longer. `afresh`: there is reason to believe that it works now, so later pauses are short again. */
  retry(afresh = false): void {
    if (this.#state.kind === 'waiting') void this.#connect(afresh ? 1 : this.#state.attempt)
  }

  /** The connection may have died unnoticed: asks it, and replaces it if it does not answer soon. */
  check(): void {
    if (this.#state.kind === 'open') this.#beat(CHECK_TIMEOUT)
    else this.retry(true)
  }

  /** The connection cannot be alive: the device lost its network. */
  drop(error: RelayError): void {
    if (this.#state.kind === 'open' || this.#state.kind === 'connecting') this.#lost(error)
  }

  /** Calls `run` once the connection is open: now, or when it opens. */
  whenOpen(run: () => void): Undo {
    if (this.#state.kind === 'open') run()
    else this.#waiting.add(run)
    return () => void this.#waiting.delete(run)
  }

  channel(topic: string, payload: () => object): Channel {
    return this.#openSocket().channel(topic, payload)
  }

  #openSocket(): QuietSocket {
    const { endpoint, webSocket, log } = this.#options
    if (this.#socket) return this.#socket
    const socket = new QuietSocket(endpoint, {
      transport: webSocket ?? Unavailable,
      params: () => this.#params,
      vsn: '2.0.0',
      timeout: JOIN_TIMEOUT,
      // Ours are sent by #beat.
      heartbeatIntervalMs: 2_147_483_647,
      encode: (frame: object, done: (raw: string) => void) => done(encodeFrame(frame as Frame)),
      decode: (raw: unknown, done: (frame: Frame) => void) => {
        const frame = decodeFrame(raw as string | ArrayBuffer)
        if (frame) done(frame)
      },
      rejoinAfterMs: (tries: number) => backoff(tries, this.#options.clock.random(), 10_000),
    } as ConstructorParameters<typeof Socket>[1])
    socket.onOpen(() => {
      this.#clearTimers()
      log('socket open')
      this.#enter({ kind: 'open' })
      const waiting = [...this.#waiting]
      this.#waiting.clear()
      for (const run of waiting) run()
      this.#heartbeat = this.#options.clock.setTimeout(() => this.#beat(HEARTBEAT_TIMEOUT), HEARTBEAT_INTERVAL)
    })
    socket.onClose((event: unknown) => {
      const { code, reason } = (event ?? {}) as { code?: number; reason?: string }
      const why = `the connection was closed (${code ?? 'no code'}${reason ? `, ${reason}` : ''})`
      this.drop(new RelayError('unreachable', why, { retryable: true, details: { close: code } }))
    })
    return (this.#socket = socket)
  }

  async #connect(attempt: number): Promise<void> {
    const generation = ++this.#generation
    this.#clearTimers()
    this.#enter({ kind: 'connecting', attempt })
    try {
      this.#params = await this.#options.loadParams()
    } catch (error) {
      if (generation === this.#generation) this.#lost(error as RelayError)
      return
    }
    if (generation !== this.#generation) return
    this.#timer = this.#options.clock.setTimeout(() => {
      this.#lost(new RelayError('timeout', 'the connection did not open in time', { retryable: true }))
    }, OPEN_TIMEOUT)
    const socket = this.#openSocket()
    // Ends what is left of the last connection at once, without waiting for its buffers.
    socket.replaceTransport(this.#options.webSocket ?? Unavailable)
    try {
      socket.connect()
    } catch (cause) {
      this.#lost(new RelayError('unreachable', 'no WebSocket could be made', { cause }))
    }
  }

  #lost(error: RelayError): void {
    const { clock, webSocket } = this.#options
    const attempt = this.#state.kind === 'connecting' ? this.#state.attempt + 1 : 1
    this.#generation++
    this.#clearTimers()
    const delay = this.#options.isOnline() ? backoff(attempt, clock.random(), BACKOFF_MAX) : BACKOFF_MAX
    this.#options.log(`socket lost, next attempt in ${delay} ms: ${error.message}`)
    this.#timer = clock.setTimeout(() => void this.#connect(attempt), delay)
    this.#enter({ kind: 'waiting', attempt, retryAt: clock.now() + delay, error })
    // Tells the channels, which then find the state as it is.
    this.#socket?.replaceTransport(webSocket ?? Unavailable)
  }

  #beat(timeout: number): void {
    const { clock } = this.#options
    clock.clearTimeout(this.#heartbeat)
    const generation = this.#generation
    const sentAt = clock.now()
    clock.clearTimeout(this.#timer)
    this.#timer = clock.setTimeout(() => {
      this.drop(new RelayError('timeout', 'the connection does not answer', { retryable: true }))
    }, timeout)
    this.#socket?.ping(() => {
      if (generation !== this.#generation) return
      clock.clearTimeout(this.#timer)
      this.#latency = clock.now() - sentAt
      this.#heartbeat = clock.setTimeout(() => this.#beat(HEARTBEAT_TIMEOUT), HEARTBEAT_INTERVAL)
    })
  }

  #clearTimers(): void {
    this.#options.clock.clearTimeout(this.#timer)
    this.#options.clock.clearTimeout(this.#heartbeat)
  }

  #enter(state: LinkState): void {
    this.#state = state
    this.#options.onState(state)
  }
}

/** Stands in where the platform has no WebSocket; the fallbacks take over. */
const Unavailable = class {
  constructor() {
    throw new RelayError('unreachable', 'this platform has no WebSocket', {
      hint: 'pass one: createRelay({ webSocket })',
    })
  }
} as unknown as WebSocketConstructor
