import { Listeners, type Relay, type RelayError, type Row, Store, type Subscription, tokenClaims, toRelayError, type Undo } from '../core'
import { ChatApi } from './api'
import { type BookingDetails, loadBooking } from './booking'
import { type Booking, type Me, readMe, type ServerMessage } from './message'

export type InboxTab = 'unassigned' | 'mine' | 'open' | 'closed'

/** A booking as the queue shows it. */
export interface InboxRow extends Booking {
  last_message: ServerMessage | null
  /** Since when the client waits for an answer. */
  waiting_since: string | null
  unread: number
  assigned_to: string | null
}

export interface CannedReply {
  shortcut: string
  body: string
}

export interface InboxSnapshot {
  rows: readonly InboxRow[]
  counts: Readonly<Record<string, number>>
  isLoading: boolean
  hasMore: boolean
  error: RelayError | null
  tab: InboxTab
  search: string
  sort: 'waiting' | 'recent'
  me: Me
}

interface InboxPage {
  bookings: InboxRow[]
  counts: Record<string, number>
  cursor: string | null
  has_more: boolean
}

/** Milliseconds that changes are gathered before the queue is loaded again. */
const GATHER = 300

/** The operators' queue: loaded from the server, and again whenever something in it changes. */
export class Inbox {
  readonly #relay: Relay
  readonly #api: ChatApi
  readonly #store: Store<InboxSnapshot>
  readonly #listeners = new Listeners<{ message: Row }>()
  readonly #subscription: Subscription<Row, void>
  #timer: unknown
  #cursor: string | null = null
  #run = 0

  constructor(relay: Relay) {
    this.#relay = relay
    this.#api = new ChatApi(relay)
    this.#store = new Store<InboxSnapshot>({
      rows: [],
      counts: {},
      isLoading: true,
      hasMore: false,
      error: null,
      tab: 'open',
      search: '',
      sort: 'waiting',
      me: readMe({}),
    })
    this.#subscription = relay.changes<Row, void>({
      topic: 'inbox',
      entries: ['messages', 'bookings', 'assignments', 'receipts'].map((table) => ({ table })),
      snapshot: () => this.load(),
    })
    this.#subscription.on('change', ({ table, type, record }) => {
      if (table === 'messages' && type === 'INSERT') this.#listeners.emit('message', record)
      this.#soon()
    })
  }

  getSnapshot = (): InboxSnapshot => this.#store.get()
  subscribe = (listener: () => void): Undo => this.#store.subscribe(listener)

  /** A message came into any conversation. */
  on(name: 'message', listener: (message: Row) => void): Undo {
    return this.#listeners.on(name, listener)
  }

  /** Shows another part of the queue. */
  show(change: Partial<Pick<InboxSnapshot, 'tab' | 'search' | 'sort'>>): void {
    this.#set(change)
    this.#soon()
  }

  async load(): Promise<void> {
    const run = ++this.#run
    this.#relay.clock.clearTimeout(this.#timer)
    try {
      const page = await this.#page(null)
      if (run !== this.#run) return
      this.#cursor = page.cursor
      const me = readMe(tokenClaims(this.#relay.tokens.current))
      this.#set({ rows: page.bookings, counts: page.counts, hasMore: page.has_more, isLoading: false, error: null, me })
    } catch (error) {
      if (run === this.#run) this.#set({ error: toRelayError(error), isLoading: false })
      throw error
    }
  }

  async loadMore(): Promise<void> {
    const page = await this.#page(this.#cursor)
    this.#cursor = page.cursor
    this.#set({ rows: [...this.getSnapshot().rows, ...page.bookings], hasMore: page.has_more })
  }

  /** Everything known of one booking. */
  details(booking: string): Promise<BookingDetails> {
    return loadBooking(this.#relay, booking)
  }

  /** Takes a booking over; rejects with `already_assigned` if somebody else has it, unless that is meant. */
  async claim(booking: string, { force = false }: { force?: boolean } = {}): Promise<void> {
    await this.#api.request('POST', `/api/bookings/${booking}/assignment`, { force })
    this.#soon()
  }

  async release(booking: string): Promise<void> {
    await this.#api.request('DELETE', `/api/bookings/${booking}/assignment`)
    this.#soon()
  }

  async cannedReplies(): Promise<CannedReply[]> {
    return (await this.#api.request<{ canned_replies: CannedReply[] }>('GET', '/api/canned-replies')).canned_replies
  }

  close(): void {
    this.#run++
    this.#relay.clock.clearTimeout(this.#timer)
    this.#subscription.close()
    this.#listeners.clear()
  }

  #page(cursor: string | null): Promise<InboxPage> {
    const { tab, search, sort } = this.getSnapshot()
    const query = new URLSearchParams({ filter: tab, sort, ...(search && { q: search }), ...(cursor && { cursor }) })
    return this.#api.request('GET', `/api/bookings?${query}`)
  }

  #soon(): void {
    this.#relay.clock.clearTimeout(this.#timer)
    this.#timer = this.#relay.clock.setTimeout(() => void this.load().catch(() => {}), GATHER)
  }

  #set(change: Partial<InboxSnapshot>): void {
    this.#store.set({ ...this.getSnapshot(), ...change })
  }
}
