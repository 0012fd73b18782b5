import { type ChatDatabase, type FakeBooking, type FakeMessage, type FakeUser, TRANSITIONS } from './chat-database'

export interface ApiRequest {
  method: string
  /** With its query. */
  path: string
  body: Record<string, any>
  user: FakeUser | null
}

export interface ApiAnswer {
  status: number
  body: unknown
}

const CONTENT_MAX = 4_000

class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly more: object = {},
  ) {
    super(message)
  }
}

/** The chat's HTTP API over a database in memory, with the answers and refusals of the real one. */
export function answerApi(db: ChatDatabase, { method, path, body, user }: ApiRequest): ApiAnswer {
  try {
    if (!user) throw new Refused(401, 'auth_required', 'Sign in to continue.')
    return new Call(db, user, new URL(path, 'http://relay'), body).answer(method)
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    const { status, code, message, more } = error
    return { status, body: { error: { code, message, retryable: status === 429 || status >= 500, ...more } } }
  }
}

class Call {
  constructor(
    readonly db: ChatDatabase,
    readonly user: FakeUser,
    readonly url: URL,
    readonly body: Record<string, any>,
  ) {}

  answer(method: string): ApiAnswer {
    const [, , resource, reference, part] = this.url.pathname.split('/')
    switch (`${method} ${resource}${part ? `/${part}` : ''}`) {
      case 'GET messages':
        return this.page()
      case 'POST messages':
        return reference === 'system' ? this.sendSystem() : this.send()
      case 'DELETE messages':
        return this.remove()
      case 'POST receipts':
        return this.acknowledge()
      case 'PATCH bookings':
      case 'POST bookings':
        return this.setStatus()
      case 'GET bookings':
        return reference ? this.showBooking(this.booking(decodeURIComponent(reference))) : this.inbox()
      case 'POST bookings/assignment':
      case 'DELETE bookings/assignment':
        return this.assign(this.booking(decodeURIComponent(reference!)), method === 'POST')
      case 'GET canned-replies':
        return this.cannedReplies()
      default:
        throw new Refused(404, 'not_found', 'There is nothing here.')
    }
  }

  booking(reference: unknown): FakeBooking {
    if (typeof reference !== 'string' || !reference) throw new Refused(400, 'invalid_booking_ref', 'Name a booking.')
    const booking = this.db.findBooking(reference)
    if (!booking) throw new Refused(404, 'booking_not_found', `There is no booking ${reference}.`)
    if (this.user.role === 'client' && booking.client_id !== this.user.id) {
      throw new Refused(403, 'not_a_participant', 'This booking belongs to somebody else.')
    }
    return booking
  }

  operatorOnly(): void {
    if (this.user.role !== 'operator') throw new Refused(403, 'operator_only', 'Only the team can do this.')
  }

  show = (message: FakeMessage | undefined) =>
    message && { ...message, message: message.content, sender_type: message.sender_role, reply_to: null }

  page(): ApiAnswer {
    const query = this.url.searchParams
    const booking = this.booking(query.get('bookingId'))
    const limit = Number(query.get('limit') ?? 50)
    const before = Number(query.get('before') ?? Infinity)
    const after = query.has('after') ? Number(query.get('after')) : undefined
    const isVisible = ({ message_type }: FakeMessage) => this.user.role === 'operator' || message_type !== 'note'
    const all = this.db.messagesOf(booking).filter((one) => isVisible(one) && one.seq < before && one.seq > (after ?? 0))
    const page = after === undefined ? all.slice(-limit) : all.slice(0, limit)
    const cursor = page.length ? `${page[0]!.seq}-${page.at(-1)!.seq}` : '1-0'
    const receipts = this.db.receipts.filter((one) => one.booking_id === booking.id)
    const body = { booking, messages: page.map(this.show), receipts, cursor, has_more: all.length > page.length }
    return { status: 200, body: structuredClone(body) }
  }

  send(): ApiAnswer {
    const booking = this.booking(this.body['bookingId'])
    const { client_id, message_type = 'text', metadata = {} } = this.body
    const content: unknown = this.body['content'] ?? this.body['message']
    const known = this.db.messagesOf(booking).find((one) => client_id && one.client_id === client_id)
    if (known) {
      if (known.content !== content) throw new Refused(409, 'idempotency_conflict', 'This id belongs to another message.')
      return { status: 200, body: { message: this.show(known) } }
    }
    if (typeof content !== 'string' || !content.trim()) throw new Refused(422, 'empty', 'Write something first.')
    if (content.length > CONTENT_MAX) throw new Refused(413, 'too_long', `Too long (${content.length} of ${CONTENT_MAX}).`)
    if (message_type !== 'text') this.operatorOnly()
    if (booking.closed_at) throw new Refused(423, 'booking_closed', 'This chat is closed.')
    const message = this.db.addMessage(booking, {
      ...(client_id && { client_id }),
      sender_role: this.user.role,
      sender_id: this.user.id,
      message_type,
      content,
      metadata,
    })
    return { status: 201, body: { message: this.show(message) } }
  }

  sendSystem(): ApiAnswer {
    this.operatorOnly()
    const booking = this.booking(this.body['bookingId'])
    const { content, metadata = {} } = this.body
    const told = this.db.messagesOf(booking).find(
      (one) => one.message_type === 'system' && one.metadata['status'] === metadata.status && metadata.status === booking.status,
    )
    if (told) return { status: 200, body: { message: this.show(told) } }
    const fields = { sender_role: 'system', message_type: 'system', content, metadata }
    return { status: 201, body: { message: this.show(this.db.addMessage(booking, fields)) } }
  }

  remove(): ApiAnswer {
    const id = this.url.searchParams.get('id') ?? this.body['id']
    const message = this.db.messages.find((one) => one.id === id)
    if (!message) throw new Refused(404, 'message_not_found', 'There is no such message.')
    if (message.message_type === 'system' || (this.user.role === 'client' && message.sender_id !== this.user.id)) {
      throw new Refused(403, 'not_author', 'Only its author can delete a message.')
    }
    this.db.deleteMessage(message)
    return { status: 200, body: { message: this.show(message) } }
  }

  acknowledge(): ApiAnswer {
    const { bookingId, delivered_seq = 0, read_seq = 0 } = this.body
    this.db.acknowledge(this.booking(bookingId), this.user, delivered_seq, read_seq)
    return { status: 204, body: null }
  }

  setStatus(): ApiAnswer {
    this.operatorOnly()
    const { bookingId, status, expected_version, content, closed } = this.body
    const booking = this.booking(bookingId)
    if (expected_version !== undefined && expected_version !== booking.status_version) {
      const by = this.db.history.filter((one) => one['booking_id'] === booking.id).at(-1)
      throw new Refused(409, 'status_conflict', 'Somebody else was faster.', { booking, changed_by: by?.['actor_name'] })
    }
    if (closed !== undefined) this.db.setClosed(booking, closed)
    let message = this.db.messagesOf(booking).filter((one) => one.message_type === 'system').at(-1)
    if (status && status !== booking.status) {
      const allowed = TRANSITIONS[booking.status] ?? []
      if (!allowed.includes(status)) {
        throw new Refused(422, 'illegal_transition', `A booking that is ${booking.status} cannot become ${status}.`, { allowed })
      }
      message = this.db.setStatus(booking, status, this.user, content)
    }
    return { status: 200, body: structuredClone({ booking, message: this.show(message) }) }
  }

  showBooking(booking: FakeBooking): ApiAnswer {
    const body = {
      booking,
      transitions: TRANSITIONS[booking.status] ?? [],
      assignment: this.db.assignmentOf(booking) ?? null,
      participants: [],
      receipts: this.db.receipts.filter((one) => one.booking_id === booking.id),
      history: this.db.history.filter((one) => one['booking_id'] === booking.id),
    }
    return { status: 200, body: structuredClone(body) }
  }

  /** What the inbox says about one booking. */
  summary(booking: FakeBooking) {
    const messages = this.db.messagesOf(booking).filter((one) => one.message_type !== 'note')
    const answered = messages.map((one) => one.sender_role).lastIndexOf('operator')
    const waiting = messages.slice(answered + 1).filter((one) => one.sender_role === 'client' && !one.deleted_at)
    const operators = this.db.receipts.filter((one) => one.booking_id === booking.id && one.role === 'operator')
    const read = Math.max(0, ...operators.map((one) => one.read_seq), messages[answered]?.seq ?? 0)
    return {
      ...booking,
      last_message: this.show(messages.at(-1)),
      waiting_since: waiting[0]?.created_at ?? null,
      unread: messages.filter((one) => one.sender_role === 'client' && one.seq > read).length,
      assigned_to: this.db.assignmentOf(booking)?.operator_id ?? null,
    }
  }

  inbox(): ApiAnswer {
    this.operatorOnly()
    const all = this.db.bookings.map((booking) => this.summary(booking))
    const tabs: Record<string, (one: (typeof all)[number]) => boolean> = {
      open: (one) => !one.closed_at,
      unassigned: (one) => !one.closed_at && !one.assigned_to,
      mine: (one) => !one.closed_at && one.assigned_to === this.user.id,
      closed: (one) => Boolean(one.closed_at),
    }
    const query = this.url.searchParams
    const isIn = tabs[query.get('filter') ?? ''] ?? (() => true)
    const search = query.get('q')?.toLowerCase() ?? ''
    const found = all.filter(isIn).filter((one) => `${one.code} ${one.client_name} ${one.last_message?.content}`.toLowerCase().includes(search))
    const since = (one: (typeof all)[number]) => one.waiting_since ?? '9'
    if (query.get('sort') === 'recent') found.sort((a, b) => (a.last_message!.created_at < b.last_message!.created_at ? 1 : -1))
    else found.sort((a, b) => (since(a) < since(b) ? -1 : 1))
    const counts = Object.fromEntries(['open', 'unassigned', 'mine'].map((tab) => [tab, all.filter(tabs[tab]!).length]))
    return { status: 200, body: structuredClone({ bookings: found, counts, cursor: null, has_more: false }) }
  }

  assign(booking: FakeBooking, isTaken: boolean): ApiAnswer {
    this.operatorOnly()
    const holder = this.db.assignmentOf(booking)
    if (isTaken && holder && holder.operator_id !== this.user.id && !this.body['force']) {
      throw new Refused(409, 'already_assigned', 'Somebody else takes care of this booking.', { assignment: holder })
    }
    const assignment = isTaken && holder?.operator_id === this.user.id ? holder : this.db.assign(booking, isTaken ? this.user : null)
    return { status: isTaken ? 200 : 204, body: isTaken ? { assignment } : null }
  }

  cannedReplies(): ApiAnswer {
    this.operatorOnly()
    const canned_replies = [
      { shortcut: 'hello', locale: 'en', body: 'Hello {{client_name}}, how can we help with {{booking_code}}?' },
      { shortcut: 'onway', locale: 'en', body: 'Our team is on the way.' },
    ]
    return { status: 200, body: { canned_replies } }
  }
}
