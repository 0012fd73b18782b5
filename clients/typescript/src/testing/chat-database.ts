import type { Row } from '../core/protocol'

/** A booking, as the server keeps it. */
export interface FakeBooking extends Row {
  id: string
  code: string
  status: string
  status_version: number
  client_id: string
  client_name: string | null
  created_at: string
  closed_at: string | null
}

export interface FakeMessage extends Row {
  id: string
  client_id: string
  booking_id: string
  seq: number
  sender_role: string
  sender_id: string | null
  message_type: string
  content: string | null
  metadata: Row
  created_at: string
  deleted_at: string | null
}

export interface FakeReceipt extends Row {
  booking_id: string
  participant_id: string
  role: string
  delivered_seq: number
  read_seq: number
  updated_at: string
}

export interface FakeAssignment extends Row {
  id: string
  booking_id: string
  operator_id: string
  operator_name: string | null
  assigned_at: string
  released_at: string | null
}

/** One committed change, at its position. */
export interface LoggedChange {
  position: number
  table: string
  type: 'INSERT' | 'UPDATE' | 'DELETE'
  record: Row
}

/** Who asks: the claims of a token that matter. */
export interface FakeUser {
  id: string
  role: 'client' | 'operator'
  name?: string
}

const STATUS_TEXTS: Record<string, string> = {
  pending: '⏳ Your booking request has been received...',
  accepted: '✅ Your booking has been accepted by our team...',
  deployed: '🚀 Our team has been deployed and is on the way.',
  completed: '🏁 Your booking is complete. Thank you for choosing us.',
}

export const TRANSITIONS: Record<string, string[]> = {
  pending: ['accepted', 'cancelled', 'declined'],
  accepted: ['cancelled', 'deployed'],
  deployed: ['cancelled', 'completed'],
}

/** The chat's tables in memory, with a log of changes; what must be true of them is kept here as the real one does. */
export class ChatDatabase {
  readonly bookings: FakeBooking[] = []
  readonly messages: FakeMessage[] = []
  readonly receipts: FakeReceipt[] = []
  readonly assignments: FakeAssignment[] = []
  readonly history: Row[] = []
  readonly log: LoggedChange[] = []
  readonly #listeners = new Set<(change: LoggedChange) => void>()
  readonly #now: () => number
  #ids = 0

  constructor(now: () => number = () => Date.now()) {
    this.#now = now
  }

  get position(): number {
    return this.log.length
  }

  onChange(listener: (change: LoggedChange) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  newId(): string {
    return `00000000-0000-7000-8000-${(++this.#ids).toString(16).padStart(12, '0')}`
  }

  now(): string {
    return new Date(this.#now()).toISOString()
  }

  /** By id or code. */
  findBooking(reference: string): FakeBooking | undefined {
    return this.bookings.find(({ id, code }) => id === reference || code.toUpperCase() === reference.toUpperCase())
  }

  openBooking(code: string, clientId: string, clientName: string | null = null): FakeBooking {
    const booking: FakeBooking = {
      id: this.newId(),
      code,
      status: 'pending',
      status_version: 1,
      client_id: clientId,
      client_name: clientName,
      created_at: this.now(),
      closed_at: null,
    }
    this.bookings.push(booking)
    this.#commit('bookings', 'INSERT', booking)
    this.#announce(booking, null, null)
    return booking
  }

  addMessage(booking: FakeBooking, fields: Partial<FakeMessage>): FakeMessage {
    const id = this.newId()
    const message: FakeMessage = {
      id,
      client_id: id,
      booking_id: booking.id,
      seq: this.messagesOf(booking).length + 1,
      sender_role: 'client',
      sender_id: null,
      message_type: 'text',
      content: '',
      metadata: {},
      created_at: this.now(),
      deleted_at: null,
      ...fields,
    }
    this.messages.push(message)
    this.#commit('messages', 'INSERT', message)
    return message
  }

  messagesOf(booking: FakeBooking): FakeMessage[] {
    return this.messages.filter((message) => message.booking_id === booking.id)
  }

  deleteMessage(message: FakeMessage): void {
    if (message.deleted_at) return
    Object.assign(message, { deleted_at: this.now(), content: null, metadata: {} })
    this.#commit('messages', 'UPDATE', message)
  }

  setStatus(booking: FakeBooking, status: string, actor: FakeUser | null, content?: string): FakeMessage {
    const from = booking.status
    booking.status = status
    booking.status_version++
    this.#commit('bookings', 'UPDATE', booking)
    return this.#announce(booking, from, actor, content)
  }

  setClosed(booking: FakeBooking, closed: boolean): void {
    booking.closed_at = closed ? this.now() : null
    this.#commit('bookings', 'UPDATE', booking)
  }

  acknowledge(booking: FakeBooking, user: FakeUser, delivered: number, read: number): void {
    const newest = this.messagesOf(booking).length
    let receipt = this.receipts.find((one) => one.booking_id === booking.id && one.participant_id === user.id)
    const isNew = !receipt
    if (!receipt) {
      receipt = { booking_id: booking.id, participant_id: user.id, role: user.role, delivered_seq: 0, read_seq: 0, updated_at: '' }
      this.receipts.push(receipt)
    }
    const before = receipt.delivered_seq + receipt.read_seq
    receipt.read_seq = Math.max(receipt.read_seq, Math.min(newest, read))
    receipt.delivered_seq = Math.max(receipt.delivered_seq, Math.min(newest, delivered), receipt.read_seq)
    if (receipt.delivered_seq + receipt.read_seq === before && !isNew) return
    receipt.updated_at = this.now()
    this.#commit('receipts', isNew ? 'INSERT' : 'UPDATE', receipt)
  }

  assign(booking: FakeBooking, operator: FakeUser | null): FakeAssignment | undefined {
    for (const one of this.assignments) {
      if (one.booking_id !== booking.id || one.released_at) continue
      one.released_at = this.now()
      this.#commit('assignments', 'UPDATE', one)
    }
    if (!operator) return undefined
    const assignment: FakeAssignment = {
      id: this.newId(),
      booking_id: booking.id,
      operator_id: operator.id,
      operator_name: operator.name ?? null,
      assigned_at: this.now(),
      released_at: null,
    }
    this.assignments.push(assignment)
    this.#commit('assignments', 'INSERT', assignment)
    return assignment
  }

  assignmentOf(booking: FakeBooking): FakeAssignment | undefined {
    return this.assignments.find((one) => one.booking_id === booking.id && !one.released_at)
  }

  #announce(booking: FakeBooking, from: string | null, actor: FakeUser | null, content?: string): FakeMessage {
    const { status, status_version } = booking
    const message = this.addMessage(booking, {
      sender_role: 'system',
      message_type: 'system',
      content: content || STATUS_TEXTS[status] || `🔄 Status updated to: ${status}`,
      metadata: { status, previous_status: from, status_version, timestamp: this.now() },
    })
    this.history.push({
      booking_id: booking.id,
      version: status_version,
      from,
      to: status,
      actor_id: actor?.id ?? null,
      actor_role: actor?.role ?? 'system',
      actor_name: actor?.name ?? null,
      note: null,
      message_id: message.id,
      at: this.now(),
    })
    return message
  }

  #commit(table: string, type: LoggedChange['type'], row: Row): void {
    const change: LoggedChange = { position: this.log.length + 1, table, type, record: structuredClone(row) }
    this.log.push(change)
    for (const listener of [...this.#listeners]) listener(change)
  }
}
