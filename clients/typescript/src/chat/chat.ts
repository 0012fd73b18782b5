import { type Change, Listeners, type Relay, RelayError, type Row, Store, type Subscription, tokenClaims, toRelayError, type Undo } from '../core'
import type { Activity } from './activity'
import { ChatApi, type Page } from './api'
import { type ChatEvents, type ChatOptions, type ChatSnapshot, CONTENT_MAX, type SendOptions } from './chat-state'
import { type Booking, type ChatMessage, isUuid, type Me, newClientId, readMe, type Receipt, type ServerMessage } from './message'
import type { Outbox } from './outbox'
import type { OutboxItem } from './outbox-store'
import { confirm, drop, EMPTY, enqueue, restart } from './timeline'
import { type FarSide, farSide, View } from './view'
import { Watermarks } from './watermarks'

/** One conversation: everything the two pages show, and everything they do. */
export class Chat {
  readonly #relay: Relay
  readonly #options: ChatOptions
  readonly #api: ChatApi
  readonly #listeners = new Listeners<ChatEvents>()
  readonly #view = new View()
  readonly #ownIds = new Set<string>()
  readonly #undo: Undo[] = []
  readonly #store: Store<ChatSnapshot>
  /** Sends that wait for a first outcome. */
  readonly #outcomes = new Map<string, () => void>()
  #outbox: Outbox | undefined
  #subscriptions: Subscription<Row, Page | void>[] = []
  #watermarks: Watermarks | undefined
  #activity: Activity | undefined
  #activityLoading: Promise<void> | undefined
  #timeline = EMPTY
  #far: FarSide | undefined
  #isClosed = false

  constructor(options: ChatOptions) {
    const { relay } = options
    this.#relay = relay
    this.#options = options
    this.#api = new ChatApi(relay)
    this.#timeline = confirm(EMPTY, options.initialMessages ?? [])
    this.#store = new Store<ChatSnapshot>({
      booking: null,
      status: '',
      messages: [],
      ...this.#connection(),
      isLoading: options.autoLoad !== false,
      hasOlder: false,
      isLoadingOlder: false,
      error: null,
      pendingCount: 0,
      failedCount: 0,
      isDurable: true,
      unreadCount: 0,
      readSeq: 0,
      receipts: [],
      typing: [],
      members: [],
      me: { id: null, role: 'client', name: null },
    })
    this.#update()
    this.#undo.push(relay.status.subscribe(() => this.#update()))
    void this.#begin()
  }

  /** The same object until something changes. */
  getSnapshot = (): ChatSnapshot => this.#store.get()

  subscribe = (listener: () => void): Undo => this.#store.subscribe(listener)

  on<Name extends keyof ChatEvents>(name: Name, listener: (payload: ChatEvents[Name]) => void): Undo {
    return this.#listeners.on(name, listener)
  }

  /**
   * Sends a message. Its bubble is there at once; the promise is fulfilled as soon as the message is sent, has failed, or
   * has to wait for a network. Rejects only where there is no bubble: for what cannot be sent at all.
   */
  async send(text: string, options: string | SendOptions = {}): Promise<ChatMessage> {
    const { type = 'text', metadata = {}, clientId } = typeof options === 'string' ? { type: options } : options
    const { error, booking } = this.getSnapshot()
    const content = text.trim()
    if (!content) throw new RelayError('empty', 'Write something first.')
    if (content.length > CONTENT_MAX) throw new RelayError('too_long', `Too long (${content.length} of ${CONTENT_MAX}).`)
    if (!booking && error && !error.retryable) throw error
    const outbox = await this.#openOutbox()
    const { clock } = this.#relay
    const id = clientId ?? newClientId(clock.now())
    this.#ownIds.add(id)
    const createdAt = new Date(clock.now()).toISOString()
    const item = outbox.add({ id, booking: booking?.id ?? this.#options.bookingId, content, type, metadata, createdAt })
    this.#timeline = enqueue(this.#timeline, item)
    this.#activity?.setTyping(false)
    const outcome = new Promise<void>((resolve) => this.#outcomes.set(id, resolve))
    this.#update()
    await outcome
    return this.#find(id) ?? this.#view.render(enqueue(EMPTY, item), undefined, this.getSnapshot().me, this.#ownIds)[0]!
  }

  /** Tries a failed message again, and with it those behind it. */
  retry(id: string): void {
    this.#outbox?.retry(id)
  }

  /** Tries all failed messages again that trying again can help. */
  retryAll(): void {
    this.#relay.retry()
    this.#outbox?.retry()
  }

  /** Gives up on an unsent message. Returns its text. */
  discard(id: string): string | undefined {
    return this.#outbox?.remove(id)?.content
  }

  /** Gives up on all unsent messages of this conversation. Returns their texts. */
  discardAll(): string[] {
    return this.#timeline.pending.map(({ id }) => this.discard(id)!)
  }

  /** Deletes a sent message; its place stays. */
  async remove(id: string): Promise<void> {
    const { message_id } = this.#find(id) ?? {}
    if (!message_id) return void this.discard(id)
    const { message } = await this.#api.request<{ message: ServerMessage }>('DELETE', `/api/messages?id=${message_id}`)
    this.#confirm([message])
  }

  async loadOlder(): Promise<void> {
    const first = this.#timeline.confirmed[0]
    if (this.getSnapshot().isLoadingOlder || !first) return
    this.#set({ isLoadingOlder: true })
    try {
      const page = await this.#api.page(first.booking_id, { before: first.seq })
      this.#timeline = confirm(this.#timeline, page.messages)
      this.#set({ hasOlder: page.has_more })
    } catch (error) {
      this.#fail(toRelayError(error))
    } finally {
      this.#set({ isLoadingOlder: false })
      this.#update()
    }
  }

  /** Loads the newest messages. */
  async load(signal?: AbortSignal): Promise<Page> {
    const reference = this.getSnapshot().booking?.id ?? this.#options.bookingId
    const page = await this.#api.page(reference, {}, signal)
    this.#merge(page)
    return page
  }

  /** The user sees the end of the conversation. */
  markRead(): void {
    const last = this.#timeline.confirmed.at(-1)?.seq ?? 0
    this.#watermarks?.raise(last, last)
    this.#update()
  }

  setTyping(isTyping: boolean): void {
    this.#activity?.setTyping(isTyping)
  }

  /** Changes the booking's status, for operators. Fails if somebody else has changed it meanwhile. */
  async updateStatus(status: string, options: { content?: string; note?: string } = {}): Promise<Booking> {
    const { booking } = this.getSnapshot()
    return this.#patch({ status, ...options, ...(booking && { expected_version: booking.status_version }) })
  }

  /** Closes the conversation, or opens it again, for operators. */
  setClosed(closed: boolean): Promise<Booking> {
    return this.#patch({ closed })
  }

  clearError(): void {
    this.#set({ error: null })
  }

  close(): void {
    this.#isClosed = true
    for (const undo of this.#undo) undo()
    for (const subscription of this.#subscriptions) subscription.close()
    this.#watermarks?.close()
    this.#activity?.close()
    this.#outbox?.release()
    for (const resolve of this.#outcomes.values()) resolve()
    this.#listeners.clear()
  }

  async #begin(): Promise<void> {
    const { bookingId, autoLoad, realtime } = this.#options
    void this.#openOutbox().catch(() => {})
    const isKnown = isUuid(bookingId)
    if (isKnown && realtime !== false) return this.#listen(bookingId)
    if (isKnown && autoLoad === false) return
    // A code is resolved by the server, whose channels are named by id.
    for (let attempt = 1; !this.#isClosed; attempt++) {
      try {
        const { booking } = await this.load()
        if (!this.#isClosed && realtime !== false) this.#listen(booking.id)
        return
      } catch (error) {
        this.#fail(toRelayError(error))
        if (!toRelayError(error).retryable) return
      }
      const delay = Math.min(attempt * 2_000, 10_000)
      await new Promise<void>((resolve) => this.#undo.push(this.#after(delay, resolve)))
    }
  }

  #after(delay: number, run: () => void): Undo {
    const timer = this.#relay.clock.setTimeout(run, delay)
    return () => this.#relay.clock.clearTimeout(timer)
  }

  #listen(bookingId: string): void {
    const ofBooking = { filter: `booking_id=eq.${bookingId}` }
    const changes = this.#relay.changes<Row, Page | void>({
      topic: `messages:${bookingId}`,
      entries: [
        { table: 'messages', ...ofBooking },
        { table: 'receipts', ...ofBooking },
      ],
      ...(this.#options.autoLoad !== false && { snapshot: (signal) => this.load(signal) }),
    })
    const status = this.#relay.changes<Row, void>({
      topic: `booking-status:${bookingId}`,
      entries: [{ table: 'bookings', event: 'UPDATE', filter: `id=eq.${bookingId}` }],
      // Comes with the messages.
      snapshot: async () => {},
    })
    this.#subscriptions = [changes, status as Subscription<Row, Page | void>]
    for (const subscription of this.#subscriptions) {
      subscription.on('change', (change) => this.#changed(change))
      subscription.on('error', (error) => this.#fail(error))
      subscription.on('live', () => {
        // What stood in its way is over.
        if (this.getSnapshot().error?.retryable) this.clearError()
        this.#update()
      })
      subscription.on('lost', () => this.#update())
      subscription.on('gap', ({ reason }) => {
        this.#listeners.emit('gap', { reason })
        // Loads what changed with the messages; a lost status comes with them.
        if (subscription !== changes) changes.refetch()
      })
    }
    this.#relay.log(`listening to messages:${bookingId} and booking-status:${bookingId}`)
    this.#openPersonal(bookingId)
  }

  /** What needs to know who the user is. */
  #openPersonal(bookingId: string): void {
    this.#watermarks ??= new Watermarks(this.#relay, this.#api, bookingId)
    if (this.#options.activity !== false && this.getSnapshot().me.id && this.#subscriptions.length) {
      this.#activityLoading ??= this.#loadActivity(bookingId)
    }
  }

  /** Nothing depends on it: where it cannot be loaded there is no typing and no presence. */
  async #loadActivity(bookingId: string): Promise<void> {
    const loaded = await import('./activity').catch(() => undefined)
    if (!loaded || this.#isClosed) return
    this.#activity = new loaded.Activity(this.#relay, bookingId, this.getSnapshot().me, () => this.#update())
  }

  /** Loaded apart, while the conversation is: it is not needed before somebody writes. Where that fails the next to ask tries again. */
  #openOutbox(): Promise<Outbox> {
    return (this.#opening ??= Promise.all([import('./outbox'), this.#relay.loadToken().catch(() => null)]).then(
      ([loaded, token]) => this.#makeOutbox(loaded.Outbox, readMe(tokenClaims(token))),
      (cause: unknown) => {
        this.#opening = undefined
        throw toRelayError(cause)
      },
    ))
  }
  #opening: Promise<Outbox> | undefined

  #makeOutbox(kind: typeof Outbox, me: Me): Outbox {
    const { bookingId, offlinePolicy = 'queue', retryDelays, openStore } = this.#options
    const outbox = (this.#outbox = kind.share(this.#relay, {
      owner: me.id ?? 'anonymous',
      policy: offlinePolicy,
      delays: retryDelays,
      openStore,
      send: async (item) => {
        this.#relay.log(`sending ${item.id} to booking ${item.booking}`)
        const body = { bookingId: item.booking, content: item.content, client_id: item.id, message_type: item.type, metadata: item.metadata }
        return (await this.#api.request<{ message: ServerMessage }>('POST', '/api/messages', body)).message
      },
    }))
    const isOurs = ({ booking }: OutboxItem) => booking === bookingId || booking === this.getSnapshot().booking?.id
    const see = (item: OutboxItem) => {
      if (!isOurs(item)) return
      this.#ownIds.add(item.id)
      this.#timeline = enqueue(this.#timeline, item)
      if (item.failure || item.waiting) this.#settle(item.id)
      this.#update()
    }
    this.#undo.push(
      outbox.on('changed', see),
      outbox.on('sent', ({ item, message }) => isOurs(item) && this.#confirm([message])),
      outbox.on('gone', (id) => {
        this.#timeline = drop(this.#timeline, id)
        this.#settle(id)
        this.#update()
      }),
    )
    void outbox.opened.then(() => {
      outbox.items.forEach(see)
      this.#set({ isDurable: outbox.isDurable })
    })
    this.#set({ me })
    const known = this.getSnapshot().booking?.id ?? bookingId
    if (isUuid(known)) this.#openPersonal(known)
    if (this.#isClosed) outbox.release()
    this.#update()
    return outbox
  }

  #changed(change: Change): void {
    const { table, record, type, truncated } = change
    if (truncated) return this.#subscriptions[0]?.refetch()
    if (table === 'bookings') this.#setBooking(record as Booking)
    if (table === 'receipts' && type !== 'DELETE') this.#setReceipts([record as unknown as Receipt])
    if (table === 'messages' && type !== 'DELETE') {
      const message = record as unknown as ServerMessage
      const isNew = !this.#timeline.confirmed.some(({ client_id }) => client_id === message.client_id)
      this.#confirm([message])
      const shown = this.#find(message.client_id)
      if (isNew && shown && !shown.isOwn) {
        this.#activity?.sent(message.sender_id)
        this.#listeners.emit('message', shown)
      }
    }
  }

  /** The server has these, so nothing of them is left to send. */
  #confirm(messages: readonly ServerMessage[]): void {
    this.#timeline = confirm(this.#timeline, messages)
    for (const message of messages) {
      this.#outbox?.remove(message.client_id, message)
      this.#settle(message.client_id)
    }
    this.#update()
  }

  #merge({ booking, messages, receipts, has_more }: Page): void {
    if (this.#isClosed) return
    const known = this.#timeline.confirmed
    const isApart = known.length > 0 && messages.length > 0 && messages[0]!.seq > known.at(-1)!.seq + 1
    const isFirst = known.length === 0
    if (isApart && has_more) this.#timeline = restart(this.#timeline, messages)
    if (isFirst || isApart) this.#set({ hasOlder: has_more })
    if (booking.id !== this.#options.bookingId) this.#outbox?.rename(this.#options.bookingId, booking.id)
    this.#setBooking(booking)
    this.#setReceipts(receipts)
    this.#set({ isLoading: false, error: null })
    this.#confirm(messages)
    this.#openPersonal(booking.id)
    this.#update()
  }

  #setBooking(booking: Booking): void {
    const before = this.getSnapshot().booking
    if (before && booking.status_version < before.status_version) return
    this.#set({ booking: { ...before, ...booking }, status: booking.status })
    if (before && before.status !== booking.status) {
      this.#relay.log(`booking status updated: ${booking.status}`)
      this.#listeners.emit('status', { status: booking.status, booking })
    }
  }

  #setReceipts(receipts: readonly Receipt[]): void {
    const known = new Map(this.getSnapshot().receipts.map((receipt) => [receipt.participant_id, receipt]))
    for (const receipt of receipts) {
      const before = known.get(receipt.participant_id)
      if (before && before.delivered_seq + before.read_seq > receipt.delivered_seq + receipt.read_seq) continue
      known.set(receipt.participant_id, receipt)
    }
    this.#set({ receipts: [...known.values()] })
    this.#update()
  }

  async #patch(body: object): Promise<Booking> {
    const bookingId = this.getSnapshot().booking?.id ?? this.#options.bookingId
    const answer = await this.#api.request<{ booking: Booking; message: ServerMessage | null }>('PATCH', '/api/bookings/status', { bookingId, ...body })
    this.#setBooking(answer.booking)
    if (answer.message) this.#confirm([answer.message])
    return answer.booking
  }

  #settle(id: string): void {
    this.#outcomes.get(id)?.()
    this.#outcomes.delete(id)
  }

  #fail(error: RelayError): void {
    if (this.#isClosed) return
    this.#set({ error, isLoading: this.getSnapshot().isLoading && error.retryable })
    this.#listeners.emit('error', error)
  }

  #find(id: string): ChatMessage | undefined {
    return this.getSnapshot().messages.find((message) => message.id === id)
  }

  #connection(): Pick<ChatSnapshot, 'connectionStatus' | 'network' | 'transport' | 'nextRetryAt' | 'isSyncing'> {
    const { phase, network, transport, nextRetryAt, socket } = this.#relay.status.get()
    const isLive = this.#subscriptions.every((subscription) => subscription.isLive)
    const connectionStatus = phase === 'connected' && !isLive ? 'connecting' : phase
    return { connectionStatus, network, transport, nextRetryAt, isSyncing: socket === 'open' && !isLive }
  }

  #set(change: Partial<ChatSnapshot>): void {
    this.#store.set({ ...this.getSnapshot(), ...change })
  }

  /** Brings the snapshot in line with everything it is made of. */
  #update(): void {
    if (this.#isClosed) return
    const before = this.getSnapshot()
    const { me, receipts } = before
    const mine = receipts.find(({ participant_id }) => participant_id === me.id)
    if (mine) this.#watermarks?.known(mine.delivered_seq, mine.read_seq)
    this.#far = farSide(receipts, me)
    const messages = this.#view.render(this.#timeline, this.#far, me, this.#ownIds)
    const theirs = this.#timeline.confirmed.filter(({ sender_id, client_id }) => sender_id !== me.id && !this.#ownIds.has(client_id))
    const newest = theirs.at(-1)?.seq ?? 0
    if (me.id) this.#watermarks?.raise(newest)
    const readSeq = this.#watermarks?.read ?? mine?.read_seq ?? 0
    const isSame = messages.length === before.messages.length && messages.every((message, at) => message === before.messages[at])
    this.#set({
      messages: isSame ? before.messages : messages,
      ...this.#connection(),
      pendingCount: this.#timeline.pending.length,
      failedCount: this.#timeline.pending.filter(({ failure }) => failure).length,
      unreadCount: theirs.filter(({ seq, message_type, deleted_at }) => seq > readSeq && message_type !== 'system' && !deleted_at).length,
      readSeq,
      typing: this.#activity?.typing ?? [],
      members: this.#activity?.members ?? [],
    })
    if (!isSame) this.#tellDelivery(before.messages, messages)
  }

  #tellDelivery(before: readonly ChatMessage[], after: readonly ChatMessage[]): void {
    const known = new Map(before.map(({ id, delivery_status }) => [id, delivery_status]))
    for (const message of after) {
      const { id, delivery_status } = message
      const isNews = known.has(id) ? known.get(id) !== delivery_status : message.seq === null
      if (delivery_status && isNews) this.#listeners.emit('delivery', { message, status: delivery_status })
    }
  }
}

export function createChat(options: ChatOptions): Chat {
  return new Chat(options)
}
