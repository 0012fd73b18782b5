import type { ChangeStream, StreamHost } from './change-stream'
import { Listeners, type Undo } from './listeners'
import {
  type Change,
  type ChangeEntry,
  type Cursor,
  entryIds,
  type GapReason,
  joinEntry,
  readMessage,
  type Row,
  type ServerMessage,
} from './protocol'
import { RelayError } from './relay-error'
import { SnapshotRunner } from './snapshot-runner'
import type { JoinedTopic, TopicHandlers } from './topic-channel'

/** How changes travel: WebSocket, Server-Sent Events, or not at all, so that the snapshot is loaded again and again. */
export type Transport = 'ws' | 'sse' | 'poll'

/** Why a snapshot was loaded. */
export type SnapshotReason = 'initial' | 'gap' | 'poll' | 'asked'

export interface ChangesOptions<Snapshot = void> {
  /** The channel's name; any, but one per set of entries. Made from the entries if left out. */
  topic?: string
  entries: readonly ChangeEntry[]
  /** Where to begin; now if left out. */
  since?: Cursor
  /**
   * Loads the state that the changes build on: once the subscription is live, after every gap, and every 5 s while live
   * updates do not get through. It may contain changes that are delivered too: merge by key.
   */
  snapshot?: (signal: AbortSignal) => Promise<Snapshot>
}

export interface SubscriptionEvents<T extends Row, Snapshot> {
  snapshot: { data: Snapshot; reason: SnapshotReason }
  change: Change<T>
  /** Everything up to now has been told, and what comes is told as it happens. */
  live: { recovered: boolean; transport: Transport }
  /** Changes may be missing. With `snapshot` it is loaded again; without, whoever listens has to. */
  gap: { reason: GapReason }
  /** No longer live; goes on by itself. */
  lost: RelayError
  error: RelayError
}

export interface SubscriptionHost extends StreamHost {
  openTopic(topic: string, handlers: TopicHandlers): JoinedTopic
  /** The token for a join. */
  token(): string | null
  /** The subscription became live, lost that, or failed in its present transport. */
  changed(error?: RelayError): void
  closed(): void
  log(message: string, data?: unknown): void
}

/** Losses that are told as errors too, because waiting may not mend them. */
const TOLD = new Set<string>(['auth_required', 'denied', 'join_refused'])
/** Milliseconds between two snapshots while live updates do not get through. */
export const POLL_INTERVAL = 5_000
/** Changes kept while a snapshot is loading. */
const HELD_MAX = 5_000
/** Positions remembered to recognise a change that comes twice. */
const SEEN_MAX = 2_000

/**
 * Changes of some tables as one ordered stream that survives every loss of the connection: it resumes where it stopped,
 * says when it could not, and tells no change twice.
 */
export class Subscription<T extends Row = Row, Snapshot = void> {
  readonly #host: SubscriptionHost
  readonly #options: ChangesOptions<Snapshot>
  readonly #listeners = new Listeners<SubscriptionEvents<T, Snapshot>>()
  readonly #runner: SnapshotRunner<Snapshot> | undefined
  /** One per entry; over a WebSocket they move together. */
  readonly #cursors: (Cursor | undefined)[]
  readonly #seen = new Set<string>()
  #held: Change[] = []
  #state: 'joining' | 'catching_up' | 'live' | 'failed' | 'closed' = 'joining'
  #transport: Transport | undefined
  #channel: JoinedTopic | undefined
  #streams: ChangeStream[] = []
  #liveStreams = new Set<number>()
  #ids: number[] = []
  #refused = new Set<number>()
  #due: SnapshotReason | undefined
  #recovered = true
  #wasLive = false
  #everLive = false
  #pollTimer: unknown
  #failure: RelayError | undefined

  constructor(host: SubscriptionHost, options: ChangesOptions<Snapshot>) {
    this.#host = host
    this.#options = options
    this.#cursors = options.entries.map(() => options.since)
    if (options.snapshot) {
      this.#runner = new SnapshotRunner(host.clock, options.snapshot)
      this.#due = 'initial'
    }
  }

  get isLive(): boolean {
    return this.#state === 'live'
  }

  /** Whether it has never been live. */
  get isNew(): boolean {
    return !this.#everLive
  }

  get entryCount(): number {
    return this.#options.entries.length
  }

  /** The newest position seen; give it as `since` to go on from there. */
  get cursor(): Cursor | undefined {
    return this.#cursors[0]
  }

  on<Name extends keyof SubscriptionEvents<T, Snapshot>>(
    name: Name,
    listener: (payload: SubscriptionEvents<T, Snapshot>[Name]) => void,
  ): Undo {
    return this.#listeners.on(name, listener)
  }

  /** Resolves once live, rejects if that can never be. */
  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        if (this.#state === 'live') resolve()
        else if (this.#state === 'failed' || this.#state === 'closed') reject(this.#failure ?? new RelayError('closed', 'the subscription was closed'))
        else return false
        return true
      }
      if (settle()) return
      const undo = [this.on('live', () => end()), this.on('error', () => end())]
      const end = () => settle() && undo.forEach((off) => off())
    })
  }

  /** Loads the snapshot again. */
  refetch(): void {
    this.#load('asked')
  }

  close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#standDown()
    this.#channel?.close()
    this.#runner?.stop()
    this.#listeners.clear()
    this.#host.closed()
  }

  /** Moves to another transport, from the newest cursor. */
  use(transport: Transport): void {
    if (this.#state === 'closed' || this.#state === 'failed' || transport === this.#transport) return
    // What stands in for the WebSocket goes on until that is live.
    if (transport !== 'ws') this.#standDown()
    this.#transport = transport
    if (transport !== 'ws') this.#state = 'joining'
    // The channel stays while other transports stand in for it: it joins as soon as the socket is there.
    this.#channel ??= this.#open()
    if (transport === 'sse') void this.#startStreams()
    if (transport === 'poll') this.#poll()
  }

  #standDown(): void {
    for (const stream of this.#streams.splice(0)) stream.close()
    this.#liveStreams.clear()
    this.#host.clock.clearTimeout(this.#pollTimer)
  }

  #open(): JoinedTopic {
    const { entries } = this.#options
    const topic = this.#options.topic ?? entries.map(({ schema = 'public', table, filter }) => `${schema}.${table}?${filter ?? ''}`).join('&')
    return this.#host.openTopic(topic, {
      payload: () => ({
        config: {
          broadcast: { ack: false, self: false },
          presence: { enabled: false, key: '' },
          private: false,
          postgres_changes: entries.map((entry, index) => joinEntry(entry, this.#cursors[index] ?? 'now')),
        },
        access_token: this.#host.token(),
      }),
      joined: (response) => {
        this.#ids = entryIds(response)
        this.#refused.clear()
        this.#recovered = true
        this.#host.log(`joined ${topic}`)
      },
      lost: (error) => this.#lost(error, 'ws'),
      message: (event, payload) => {
        const message = readMessage(event, payload)
        if (message) this.#receive(message)
      },
    })
  }

  /** Most networks need none of this, so it is loaded where it is needed. */
  async #startStreams(): Promise<void> {
    const loaded = await import('./change-stream').catch((cause: unknown) => {
      this.#lost(new RelayError('blocked', 'event streams could not be loaded', { retryable: true, cause }), 'sse')
    })
    if (!loaded || this.#transport !== 'sse' || this.#streams.length || this.#state === 'closed') return
    this.#recovered = true
    this.#streams = this.#options.entries.map(
      (entry, index) =>
        new loaded.ChangeStream(
          this.#host,
          entry,
          () => this.#cursors[index] ?? 'now',
          (message) => this.#receive(message, index),
          (error) => {
            this.#liveStreams.delete(index)
            this.#lost(error, 'sse')
          },
        ),
    )
  }

  /** `index`: the entry, where the message concerns that one alone. */
  #receive(message: ServerMessage, index?: number): void {
    switch (message.kind) {
      case 'change':
        return this.#change(message.change, index)
      case 'checkpoint':
        return this.#move(message.cursor, index)
      case 'live':
        return this.#live(message, index)
      case 'must_refetch':
        this.#move(message.cursor, index)
        return this.#gap(message.reason)
      case 'binding_error':
        return this.#refuse(message.message, message.binding)
      case 'channel_error':
        return this.#listeners.emit('error', new RelayError('closed', message.message, { retryable: true }))
    }
  }

  #move(cursor: Cursor | undefined, index?: number): void {
    if (cursor === undefined) return
    if (index === undefined) this.#cursors.fill(cursor)
    else this.#cursors[index] = cursor
  }

  #change(change: Change, index?: number): void {
    this.#move(change.cursor, index)
    // Entries with columns of their own are told of one change one by one.
    const columns = () => Object.keys(change.record).join()
    if (change.cursor !== undefined && this.#isRepeated(`${change.cursor} ${columns()}`)) return
    if (!this.#runner?.isRunning && this.#due === undefined) return this.#listeners.emit('change', change as Change<T>)
    this.#held.push(change)
    if (this.#held.length <= HELD_MAX) return
    this.#held = []
    this.#load(this.#due ?? 'gap')
  }

  #isRepeated(key: string): boolean {
    if (this.#seen.has(key)) return true
    this.#seen.add(key)
    if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.values().next().value!)
    return false
  }

  #live({ cursor, recovered }: { cursor: Cursor | undefined; recovered: boolean }, index?: number): void {
    this.#move(cursor, index)
    if (index !== undefined) {
      this.#liveStreams.add(index)
      if (this.#liveStreams.size < this.entryCount) return
    } else if (this.#refused.size === 0) {
      this.#standDown()
    }
    // Where there was nothing to recover, nothing was lost.
    this.#recovered &&= recovered || !this.#wasLive
    if (cursor === undefined && this.#wasLive) this.#gap('no_cursor')
    this.#wasLive = true
    this.#state = 'catching_up'
    if (this.#due !== undefined) this.#load(this.#due)
    else this.#enterLive()
  }

  #gap(reason: GapReason): void {
    this.#recovered = false
    this.#host.log(`changes may be missing: ${reason}`)
    this.#listeners.emit('gap', { reason })
    if (this.#runner) this.#load('gap')
  }

  #refuse(message: string, binding: number | undefined): void {
    const index = this.#ids.indexOf(binding ?? NaN)
    this.#refused.add(index)
    this.#failure = new RelayError('binding_refused', message, { details: { entry: this.#options.entries[index] } })
    const isHopeless = this.#refused.size >= this.entryCount
    if (isHopeless && !this.#runner) this.#state = 'failed'
    this.#listeners.emit('error', this.#failure)
    this.#host.changed(this.#failure)
    // What is not told live can still be looked at.
    if (this.#runner) this.#poll()
  }

  #load(reason: SnapshotReason): void {
    if (!this.#runner || this.#state === 'closed') return
    this.#due = this.#due === 'initial' ? 'initial' : reason
    this.#runner.run(
      (data) => {
        const told = this.#due ?? reason
        this.#due = undefined
        this.#listeners.emit('snapshot', { data, reason: told })
        for (const change of this.#held.splice(0)) this.#listeners.emit('change', change as Change<T>)
        if (this.#state === 'catching_up' || this.#transport === 'poll') this.#enterLive()
        else this.#host.changed()
      },
      (error) => {
        this.#listeners.emit('error', error)
        this.#lost(error, 'poll')
      },
    )
  }

  #enterLive(): void {
    const wasLive = this.#state === 'live'
    this.#state = 'live'
    this.#everLive = true
    if (!wasLive) this.#listeners.emit('live', { recovered: this.#recovered, transport: this.#transport ?? 'ws' })
    this.#host.changed()
  }

  /** `of`: what was lost; only the present transport counts. */
  #lost(error: RelayError, of: Transport): void {
    if (this.#state === 'closed' || this.#state === 'failed' || of !== this.#transport) return
    const wasLive = this.#state === 'live'
    this.#state = 'joining'
    if (error.code === 'denied') {
      this.#failure = error
      if (!this.#runner) this.#state = 'failed'
    }
    if (wasLive) this.#listeners.emit('lost', error)
    if (TOLD.has(error.code)) this.#listeners.emit('error', error)
    this.#host.changed(error)
  }

  #poll(): void {
    const { clock } = this.#host
    clock.clearTimeout(this.#pollTimer)
    if (this.#runner && !this.#runner.isRunning) this.#load('poll')
    this.#pollTimer = clock.setTimeout(() => this.#poll(), POLL_INTERVAL)
  }
}
