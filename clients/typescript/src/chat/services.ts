import { type ConnectionPhase, Listeners, type Relay, RelayError, type Undo } from '../core'
import { ChatApi } from './api'
import type { Chat } from './chat'
import type { SendOptions } from './chat-state'
import type { Booking, ChatMessage, DeliveryStatus, ServerMessage } from './message'
import { acquireChat, defaultRelay, openChats, watchChats } from './registry'

export interface ServiceEvents {
  connection_status: { status: ConnectionPhase }
  delivery_status: { status: DeliveryStatus; messageId: string; bookingId: string }
  message: ChatMessage
  status_update: { status: string; bookingId: string }
  error: RelayError
}

export interface CleanupOptions {
  /** Throw unsent messages away too. */
  discardQueue?: boolean
}

/**
 * The chat without hooks. It sees every conversation of the relay, those of hooks too; the ones it opens itself stay open
 * until `cleanup`.
 */
export class ChatService {
  readonly #chats = new Map<string, { chat: Chat; release: Undo }>()
  readonly #listeners = new Listeners<ServiceEvents>()
  readonly #relay: () => Relay
  #watching: Undo[] = []

  constructor(relay: () => Relay = defaultRelay) {
    this.#relay = relay
  }

  /** Sends a message to a booking, named by id or code. */
  sendMessage(bookingId: string, content: string, options?: string | SendOptions): Promise<ChatMessage> {
    return this.#open(bookingId).send(content, options)
  }

  /** The newest messages of a booking. */
  async getMessages(bookingId: string): Promise<readonly ChatMessage[]> {
    const chat = this.#open(bookingId)
    await chat.load()
    return chat.getSnapshot().messages
  }

  /** Tells new messages, and status changes, until the returned function is called. */
  subscribe(
    bookingId: string,
    { onMessage, onStatusUpdate }: { onMessage?: (message: ChatMessage) => void; onStatusUpdate?: (status: string) => void },
  ): Undo {
    const chat = this.#open(bookingId)
    const undo = [
      chat.on('message', (message) => onMessage?.(message)),
      chat.on('status', ({ status }) => onStatusUpdate?.(status)),
    ]
    return () => undo.forEach((off) => off())
  }

  /** The id of a booking, whatever it is named by. */
  async resolveBookingId(reference: string): Promise<string> {
    const { booking } = await new ChatApi(this.#relay()).page(reference)
    return booking.id
  }

  updateStatus(bookingId: string, status: string): Promise<Booking> {
    return this.#open(bookingId).updateStatus(status)
  }

  /** Writes a system message. Telling a status that has been told is no second message. */
  async sendSystemMessage(bookingId: string, content: string, metadata: Record<string, unknown> = {}): Promise<ServerMessage> {
    const body = { bookingId, content, metadata }
    return (await new ChatApi(this.#relay()).request<{ message: ServerMessage }>('POST', '/api/messages/system', body)).message
  }

  getConnectionStatus(): ConnectionPhase {
    return this.#relay().status.get().phase
  }

  getPendingMessagesCount(): number {
    return openChats(this.#relay()).reduce((sum, chat) => sum + chat.getSnapshot().pendingCount, 0)
  }

  async retryFailedMessages(): Promise<void> {
    for (const chat of openChats(this.#relay())) chat.retryAll()
  }

  addEventListener<Name extends keyof ServiceEvents>(name: Name, listener: (data: ServiceEvents[Name]) => void): Undo {
    if (!this.#watching.length) this.#watch()
    return this.#listeners.on(name, listener)
  }

  /**
   * Ends all listening and lets the conversations go. Unsent messages stay on disk, and are sent when a conversation is
   * opened again; with `discardQueue` they are thrown away. Returns the texts of those.
   */
  async cleanup({ discardQueue = false }: CleanupOptions = {}): Promise<string[]> {
    const dropped: string[] = []
    if (discardQueue) for (const chat of openChats(this.#relay())) dropped.push(...chat.discardAll())
    for (const undo of this.#watching.splice(0)) undo()
    for (const { release } of this.#chats.values()) release()
    this.#chats.clear()
    this.#listeners.clear()
    return dropped
  }

  #open(bookingId: string): Chat {
    const known = this.#chats.get(bookingId)
    if (known) return known.chat
    const held = acquireChat({ relay: this.#relay(), bookingId })
    this.#chats.set(bookingId, held)
    return held.chat
  }

  #watch(): void {
    const relay = this.#relay()
    const tell = this.#listeners.emit.bind(this.#listeners)
    let before = relay.status.get().phase
    this.#watching.push(
      relay.status.subscribe(({ phase }) => {
        if (phase !== before) tell('connection_status', { status: phase })
        before = phase
      }),
      watchChats(relay, (chat) => {
        this.#watching.push(
          chat.on('message', (message) => tell('message', message)),
          chat.on('error', (error) => tell('error', error)),
          chat.on('status', ({ status, booking }) => tell('status_update', { status, bookingId: booking.id })),
          chat.on('delivery', ({ message: { id, booking_id }, status }) =>
            tell('delivery_status', { status, messageId: id, bookingId: booking_id }),
          ),
        )
      }),
    )
  }
}

// Made without effects: nothing is opened before it is used.
const service = /* @__PURE__ */ new ChatService()

/** Sends and receives messages and status updates. */
export const unifiedChatService = service
/** The same service under the name that stands for delivery: retries, queue, events. */
export const realtimeMessageService = service
