import { Listeners, type Relay, RelayError, toRelayError, type Undo } from '../core'
import { openIndexedDb } from './indexed-db'
import { type ServerMessage, toFailure } from './message'
import { memoryStore, type OfflinePolicy, type OutboxItem, type OutboxStore } from './outbox-store'
import { holdTab, type TabHold } from './tabs'

export interface OutboxEvents {
  changed: OutboxItem
  sent: { item: OutboxItem; message: ServerMessage }
  /** Left the outbox without this tab having sent it. */
  gone: string
}

/** What tabs tell each other: an item came or changed; one has gone, and what the server made of it; something may go on. */
interface News {
  put?: OutboxItem
  gone?: string
  message?: ServerMessage
  wake?: boolean
}

export interface OutboxOptions {
  owner: string
  policy: OfflinePolicy
  /** Milliseconds before the second, third ... try. */
  delays: readonly number[] | undefined
  /** On the disk of the browser if left out. */
  openStore: ((owner: string) => Promise<OutboxStore>) | undefined
  send: (item: OutboxItem) => Promise<ServerMessage>
}

const RETRY_DELAYS = [1_000, 2_000, 4_000]
const JITTER = 0.2
/** Milliseconds between looks at whether a server that could not be reached can be. */
const REACH_INTERVAL = 5_000
/** The same, to whether somebody has signed in. */
const SIGN_IN_INTERVAL = 30_000
const ITEMS_MAX = 200
const CHARACTERS_MAX = 5_000_000

/** The outboxes in use, by relay and user. */
const shared = new WeakMap<Relay, Map<string, Outbox>>()

/**
 * Unsent messages of one user. Each is on disk before it is tried, those of a booking go out one after the other, and
 * of several tabs one does the sending.
 */
export class Outbox {
  readonly #relay: Relay
  readonly #options: OutboxOptions
  readonly #listeners = new Listeners<OutboxEvents>()
  readonly #items = new Map<string, OutboxItem>()
  /** What each booking's queue is waiting for; a queue that is not in here stands still. */
  readonly #busy = new Map<string, unknown>()
  /** Ids that have left the outbox. */
  readonly #done = new Set<string>()
  readonly #unlisten: Undo
  #store: OutboxStore = memoryStore()
  #tab: TabHold | undefined
  #closed = false
  #users = 0
  /** Whether what is on disk has been read. */
  readonly opened: Promise<void>

  constructor(relay: Relay, options: OutboxOptions) {
    this.#relay = relay
    this.#options = options
    this.#unlisten = relay.status.subscribe(({ network, transport }) => {
      if (network === 'online' && transport) this.#wake()
    })
    this.opened = this.#open()
  }

  /** The outbox of this user; the options are those of whoever asks first. `release` it when done. */
  static share(relay: Relay, options: OutboxOptions): Outbox {
    let outboxes = shared.get(relay)
    if (!outboxes) shared.set(relay, (outboxes = new Map()))
    let outbox = outboxes.get(options.owner)
    if (!outbox) outboxes.set(options.owner, (outbox = new Outbox(relay, options)))
    outbox.#users++
    return outbox
  }

  release(): void {
    if (--this.#users > 0) return
    shared.get(this.#relay)?.delete(this.#options.owner)
    this.#close()
  }

  get #delays(): readonly number[] {
    return this.#options.delays ?? RETRY_DELAYS
  }

  get isDurable(): boolean {
    return this.#store.isDurable
  }

  get items(): OutboxItem[] {
    return [...this.#items.values()].sort((a, b) => a.order - b.order)
  }

  on<Name extends keyof OutboxEvents>(name: Name, listener: (payload: OutboxEvents[Name]) => void): Undo {
    return this.#listeners.on(name, listener)
  }

  /** Takes a message over. It is tried once it is on disk. */
  add(fields: Omit<OutboxItem, 'owner' | 'order' | 'attempts'>): OutboxItem {
    const size = this.items.reduce((sum, { content }) => sum + content.length, fields.content.length)
    if (this.#items.size >= ITEMS_MAX || size > CHARACTERS_MAX) {
      throw new RelayError('outbox_full', 'Too many messages are waiting to be sent.')
    }
    const last = Math.max(0, ...this.items.map(({ order }) => order))
    const order = Math.max(this.#relay.clock.now(), last + 1)
    const item: OutboxItem = { ...fields, owner: this.#options.owner, order, attempts: 0 }
    this.#items.set(item.id, item)
    void this.opened.then(() => this.#keep(item)).then(() => this.#pump(item.booking))
    return item
  }

  /** Tries failed messages again; those that were refused for good are left alone unless named. */
  retry(id?: string): void {
    for (const item of this.items) {
      const isMeant = id ? item.id === id : item.failure?.retryable
      if (!isMeant) continue
      const { failure: _, ...again } = item
      this.#set({ ...again, attempts: 0 })
    }
    this.#wake()
  }

  /** A booking known by its code turned out to be this one: its messages join the same queue. */
  rename(code: string, booking: string): void {
    for (const item of this.items) if (item.booking === code) this.#set({ ...item, booking })
  }

  /** The server has it after all, or nobody wants it sent any more. */
  remove(id: string, message?: ServerMessage): OutboxItem | undefined {
    const item = this.#items.get(id)
    if (!item) return undefined
    this.#discard(id, message)
    this.#listeners.emit('gone', id)
    this.#wake()
    return item
  }

  #close(): void {
    this.#closed = true
    this.#unlisten()
    for (const timer of this.#busy.values()) this.#relay.clock.clearTimeout(timer)
    this.#tab?.release()
    this.#listeners.clear()
    void this.opened.then(() => this.#store.close())
  }

  async #open(): Promise<void> {
    const { owner, openStore = openIndexedDb } = this.#options
    try {
      this.#store = await openStore(owner)
      await this.#read()
    } catch (error) {
      this.#relay.log('the outbox is kept in memory only', error)
      this.#store = memoryStore()
    }
    if (this.#closed) return
    this.#tab = holdTab(this.isDurable ? `pgrelay-outbox:${owner}` : null, {
      told: (message) => this.#told(message as News),
      // The tab that sent until now is gone; what it left is on disk.
      leads: () => void this.#read().then(() => this.#wake(), () => {}),
    })
  }

  async #read(): Promise<void> {
    for (const item of await this.#store.all()) {
      if (this.#items.has(item.id) || this.#done.has(item.id)) continue
      this.#items.set(item.id, item)
      this.#listeners.emit('changed', item)
    }
  }

  #told({ put, gone, message, wake }: News): void {
    if (put && !this.#done.has(put.id)) {
      this.#items.set(put.id, put)
      this.#listeners.emit('changed', put)
      this.#pump(put.booking)
    }
    const item = gone && this.#items.get(gone)
    if (gone && this.#forget(gone) && item) {
      // Its bubble stays: the tab that heard of it hands on what the server made of it.
      if (message) this.#listeners.emit('sent', { item, message })
      else this.#listeners.emit('gone', gone)
    }
    if (wake || gone) this.#wake()
  }

  #set(item: OutboxItem): void {
    if (!this.#items.has(item.id)) return
    this.#items.set(item.id, item)
    void this.#keep(item)
    this.#listeners.emit('changed', item)
  }

  /** What another tab still says of it afterwards is old. */
  #forget(id: string): boolean {
    this.#done.add(id)
    return this.#items.delete(id)
  }

  #discard(id: string, message?: ServerMessage): void {
    this.#forget(id)
    void this.#store.delete(id).catch(() => {})
    this.#tab?.tell({ gone: id, message })
  }

  async #keep(item: OutboxItem): Promise<void> {
    await this.#store.put(item).catch((error) => this.#relay.log('a message could not be kept on disk', error))
    if (this.#items.get(item.id) === item) this.#tab?.tell({ put: item })
  }

  /** Something changed that may let messages through. */
  #wake(): void {
    if (!this.#tab?.isLeading) return this.#tab?.tell({ wake: true })
    for (const booking of new Set(this.items.map((item) => item.booking))) {
      const timer = this.#busy.get(booking)
      if (timer === true) continue
      const head = this.#head(booking)
      if (timer !== undefined && !head?.waiting) continue
      this.#relay.clock.clearTimeout(timer)
      this.#busy.delete(booking)
      this.#pump(booking)
    }
  }

  /** The message whose turn it is. One refused for good will never be sent, so it holds nobody up. */
  #head(booking: string): OutboxItem | undefined {
    return this.items.find((item) => item.booking === booking && item.failure?.kind !== 'rejected')
  }

  #pump(booking: string): void {
    const head = this.#head(booking)
    if (this.#closed || !this.#tab?.isLeading || !head || head.failure || this.#busy.has(booking)) return
    if (this.#options.policy === 'queue' && this.#relay.status.get().network === 'offline') {
      if (head.waiting !== 'network') this.#set({ ...head, waiting: 'network' })
      void globalThis.navigator?.storage?.persist?.().catch(() => {})
      return
    }
    this.#busy.set(booking, true)
    const { waiting: _, ...trying } = head
    this.#set({ ...trying, attempts: head.attempts + 1 })
    this.#options.send(head).then(
      (message) => this.#sent(head, message),
      (error: unknown) => this.#failed(head, toRelayError(error)),
    )
  }

  #sent(item: OutboxItem, message: ServerMessage): void {
    this.#busy.delete(item.booking)
    if (this.#closed) return
    this.#discard(item.id, message)
    this.#listeners.emit('sent', { item, message })
    this.#pump(item.booking)
  }

  #failed({ id, booking }: OutboxItem, error: RelayError): void {
    this.#busy.delete(booking)
    if (this.#closed) return
    const item = this.#items.get(id)
    // An echo was faster than the news that the answer is lost.
    if (!item) return this.#pump(booking)
    const isAway = error.code === 'unreachable' || error.code === 'timeout'
    if (isAway) this.#relay.check()
    if (error.status === 401) {
      // Not its fault, and trying again does not help before somebody signs in.
      this.#set({ ...item, attempts: 0, waiting: 'sign_in' })
      this.#later(booking, SIGN_IN_INTERVAL)
    } else if (isAway && this.#options.policy === 'queue' && this.#relay.status.get().transport === null) {
      this.#set({ ...item, attempts: Math.max(0, item.attempts - 1), waiting: 'network' })
      this.#later(booking, REACH_INTERVAL)
    } else if (error.retryable && item.attempts <= this.#delays.length) {
      const jitter = 1 + JITTER * (2 * this.#relay.clock.random() - 1)
      this.#later(booking, Math.max(this.#delays[item.attempts - 1]! * jitter, (error.retryAfter ?? 0) * 1000))
    } else {
      this.#set({ ...item, failure: toFailure(error) })
      this.#pump(booking)
    }
  }

  #later(booking: string, delay: number): void {
    const { clock } = this.#relay
    const timer = clock.setTimeout(() => {
      this.#busy.delete(booking)
      this.#pump(booking)
    }, delay)
    this.#busy.set(booking, timer)
  }
}
