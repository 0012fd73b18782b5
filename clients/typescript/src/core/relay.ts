import { type Clock, systemClock } from './clock'
import { Link, type WebSocketConstructor } from './link'
import { Store } from './listeners'
import type { Row } from './protocol'
import { RelayError } from './relay-error'
import { browserSignals, type Signals } from './signals'
import { deriveStatus, type RelayStatus } from './status'
import { type ChangesOptions, Subscription, type SubscriptionHost, type Transport } from './subscription'
import { type GetToken, TokenKeeper } from './token-keeper'
import { type JoinedTopic, TopicChannel, type TopicHandlers } from './topic-channel'

export interface RelayOptions {
  /** Where pgrelay is, such as `https://chat.example.com`; the page's own origin if left out. */
  url?: string
  /** The key of the connection, if it is not the user's token. */
  key?: string
  /** Gives the user's token. Asked before it runs out and whenever the server refuses the one it gave. */
  getToken?: GetToken
  /** Needed before Node 22: `import WebSocket from 'ws'`. */
  webSocket?: WebSocketConstructor
  fetch?: typeof fetch
  /** What may be used, WebSockets first. */
  transports?: readonly Transport[]
  /** Told about every change of state, in words. */
  logger?: (message: string, data?: unknown) => void
  clock?: Clock
  signals?: Signals
}

/** Attempts that must fail in a row before another transport is tried. */
const FAILURES_BEFORE_FALLBACK = 2
/** Browsers allow six connections to a server of HTTP/1.1, and requests need some of them. */
const STREAMS_MAX = 3
/** Milliseconds that the connection stays after its last user has gone; long enough for a page to change its mind. */
const LINGER = 5_000
const TICK_INTERVAL = 5_000
/** Milliseconds that a tick may be late before the device must have slept. */
const SLEEP_MIN = 10_000

/** One connection to pgrelay and everything that uses it. Opens with its first use; make one per page. */
export class Relay {
  readonly url: string
  readonly clock: Clock
  readonly fetch: typeof fetch
  readonly signals: Signals
  readonly tokens: TokenKeeper
  readonly log: (message: string, data?: unknown) => void
  readonly #options: RelayOptions
  readonly #transports: readonly Transport[]
  readonly #link: Link
  readonly #status: Store<RelayStatus>
  readonly #subscriptions = new Set<Subscription<never, never>>()
  readonly #channels = new Set<TopicChannel>()
  #users = 0
  #mode: Transport
  #wasConnected = false
  #error: RelayError | null = null
  #unlisten: (() => void) | undefined
  #tick: unknown
  #linger: unknown

  constructor(options: RelayOptions = {}) {
    this.#options = options
    const origin = typeof location === 'undefined' ? '' : location.origin
    this.url = (options.url ?? origin).replace(/\/+$/, '')
    this.clock = options.clock ?? systemClock
    this.fetch = options.fetch ?? ((...args) => globalThis.fetch(...args))
    this.signals = options.signals ?? browserSignals
    this.log = options.logger ?? (() => {})
    this.#transports = options.transports ?? ['ws', 'sse', 'poll']
    this.#mode = this.#transports[0] ?? 'ws'
    this.tokens = new TokenKeeper(this.clock, options.getToken ?? (() => options.key), (token) => {
      for (const channel of this.#channels) channel.push('access_token', { access_token: token })
    })
    this.#link = new Link({
      endpoint: `${this.url.replace(/^http/, 'ws')}/realtime/v1`,
      webSocket: options.webSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket,
      clock: this.clock,
      isOnline: () => this.signals.online(),
      loadParams: () => this.#loadParams(),
      onState: () => this.#linkChanged(),
      log: this.log,
    })
    this.#status = new Store(deriveStatus(this.#facts(), undefined, this.clock.now()))
  }

  /** What the connection is up to: `get()`, and `subscribe(listener)`, which returns its own undo. */
  get status(): Pick<Store<RelayStatus>, 'get' | 'subscribe'> {
    return this.#status
  }

  /** Subscribes to changes. */
  changes<T extends Row = Row, Snapshot = void>(options: ChangesOptions<Snapshot>): Subscription<T, Snapshot> {
    this.#acquire()
    const host: SubscriptionHost = {
      url: this.url,
      clock: this.clock,
      fetch: this.fetch,
      log: this.log,
      loadToken: () => this.loadToken(),
      refreshToken: () => this.tokens.refresh(),
      openTopic: (topic, handlers) => this.#openTopic(topic, handlers),
      token: () => this.token(),
      changed: (error) => this.#subscriptionChanged(error),
      closed: () => {
        this.#subscriptions.delete(subscription as never)
        this.#release()
      },
    }
    const subscription = new Subscription<T, Snapshot>(host, options)
    this.#subscriptions.add(subscription as never)
    subscription.use(this.#mode)
    this.#update()
    return subscription
  }

  /** Joins a channel, and joins it again after every loss, until it is closed. Its messages are for `handlers` to read. */
  join(topic: string, handlers: TopicHandlers): JoinedTopic {
    this.#acquire()
    return this.#openTopic(topic, handlers, () => this.#release())
  }

  /** The token for a request, or the key where there is no user. */
  async loadToken(): Promise<string | null> {
    return (await this.tokens.load()) ?? this.#options.key ?? null
  }

  /** Tries to connect now instead of waiting. */
  retry(): void {
    this.#link.retry()
  }

  /** A request went wrong: sees whether the connection is still alive. */
  check(): void {
    this.#link.check()
  }

  /** Ends everything. The relay cannot be used again. */
  dispose(): void {
    for (const subscription of [...this.#subscriptions]) subscription.close()
    this.#stop()
    this.tokens.stop()
  }

  /** The token for a join, as it is now. */
  token(): string | null {
    return this.tokens.current ?? this.#options.key ?? null
  }

  async #loadParams(): Promise<Record<string, string>> {
    const token = await this.loadToken()
    const apikey = this.#options.key ?? token
    return apikey ? { apikey } : {}
  }

  #openTopic(topic: string, handlers: TopicHandlers, closed = () => {}): TopicChannel {
    const channel = new TopicChannel(this.#link, this.clock, topic, {
      ...handlers,
      lost: (error) => {
        if (error.code === 'auth_required') void this.tokens.refresh().catch(() => {})
        handlers.lost(error)
      },
    })
    this.#channels.add(channel)
    const close = channel.close.bind(channel)
    channel.close = () => {
      if (!this.#channels.delete(channel)) return
      close()
      closed()
    }
    return channel
  }

  #acquire(): void {
    this.clock.clearTimeout(this.#linger)
    if (this.#users++ > 0 || this.#unlisten) return
    this.#unlisten = this.signals.listen((signal) => this.#signalled(signal))
    this.#watchSleep()
    this.#link.start()
  }

  #release(): void {
    if (--this.#users > 0) return
    this.clock.clearTimeout(this.#linger)
    this.#linger = this.clock.setTimeout(() => this.#stop(), LINGER)
  }

  #stop(): void {
    this.clock.clearTimeout(this.#linger)
    this.clock.clearTimeout(this.#tick)
    this.#unlisten?.()
    this.#unlisten = undefined
    this.#mode = this.#transports[0] ?? 'ws'
    this.#wasConnected = false
    this.#link.stop()
  }

  #signalled(signal: 'online' | 'offline' | 'wake'): void {
    this.log(`device: ${signal}`)
    if (signal === 'offline') this.#link.drop(new RelayError('unreachable', 'the device is offline', { retryable: true }))
    else this.#link.check()
    this.#update()
  }

  /** Timers stand still while a device sleeps, so one that comes much too late tells of it. */
  #watchSleep(): void {
    const due = this.clock.now() + TICK_INTERVAL
    this.#tick = this.clock.setTimeout(() => {
      if (this.clock.now() - due > SLEEP_MIN) this.#signalled('wake')
      this.#watchSleep()
    }, TICK_INTERVAL)
  }

  #linkChanged(): void {
    const { state } = this.#link
    if (state.kind === 'open') this.#setMode('ws')
    if (state.kind === 'waiting') {
      this.#error = state.error
      const isOut = state.attempt > FAILURES_BEFORE_FALLBACK
      if (isOut && this.#mode === 'ws' && this.signals.online()) this.#fallBack('sse')
    }
    this.#update()
  }

  #subscriptionChanged(error?: RelayError): void {
    // That a channel was lost with its connection says less than why the connection was.
    if (error && error.code !== 'closed') this.#error = error
    if (error?.code === 'blocked' && this.#mode === 'sse') this.#fallBack('poll')
    // The server can be reached after all: a WebSocket is worth another try at once, and again whenever that is new.
    else if (this.#mode !== 'ws' && this.#allLive() && this.#status.get().transport === null) this.#link.retry()
    this.#update()
  }

  #fallBack(wanted: 'sse' | 'poll'): void {
    const streams = [...this.#subscriptions].reduce((sum, subscription) => sum + subscription.entryCount, 0)
    const isPossible = (transport: Transport) => this.#transports.includes(transport) && (transport === 'poll' || streams <= STREAMS_MAX)
    const mode = (['sse', 'poll'] as const).slice(wanted === 'sse' ? 0 : 1).find(isPossible)
    if (mode) this.#setMode(mode)
  }

  #setMode(mode: Transport): void {
    if (mode !== this.#mode) this.log(`transport: ${mode}`)
    this.#mode = mode
    for (const subscription of this.#subscriptions) subscription.use(mode)
  }

  /** A new subscription on a connection that stands is no loss. */
  #allLive(): boolean {
    return [...this.#subscriptions].every((subscription) => subscription.isLive || (this.#wasConnected && subscription.isNew))
  }

  #facts() {
    return {
      online: this.signals.online(),
      link: this.#link.state,
      mode: this.#mode,
      allLive: this.#allLive(),
      wasConnected: this.#wasConnected,
      error: this.#error,
      latency: this.#link.latency,
    }
  }

  #update(): void {
    const status = deriveStatus(this.#facts(), this.#status.get(), this.clock.now())
    if (status.transport) {
      this.#wasConnected = true
      this.#error = null
    }
    this.#status.set(status)
  }
}

/** A relay; nothing happens before it is used. */
export function createRelay(options: RelayOptions = {}): Relay {
  return new Relay(options)
}
