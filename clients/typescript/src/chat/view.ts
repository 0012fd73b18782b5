import type { ChatMessage, DeliveryStatus, Me, Receipt, ServerMessage } from './message'
import type { OutboxItem } from './outbox-store'
import type { Timeline } from './timeline'

/** What the other side has received and read. Undefined while nobody has told. */
export interface FarSide {
  delivered: number
  read: number
}

export function farSide(receipts: readonly Receipt[], me: Me): FarSide | undefined {
  const others = receipts.filter(({ participant_id, role }) => participant_id !== me.id && role !== me.role)
  if (others.length === 0) return undefined
  const most = (key: 'delivered_seq' | 'read_seq') => Math.max(...others.map((one) => one[key]))
  return { delivered: most('delivered_seq'), read: most('read_seq') }
}

type Shown = Map<string, { source: object; status: string | undefined; message: ChatMessage }>

/** Turns a timeline into what is shown, keeping every object that would come out the same. */
export class View {
  #before: Shown = new Map()

  /** `ownIds`: messages that this device sent, wherever it is not known who its user is. */
  render({ confirmed, pending }: Timeline, far: FarSide | undefined, me: Me, ownIds: ReadonlySet<string>): ChatMessage[] {
    const after: Shown = new Map()
    const keep = (id: string, source: object, status: string | undefined, make: () => ChatMessage) => {
      const before = this.#before.get(id)
      const entry = before?.source === source && before.status === status ? before : { source, status, message: make() }
      after.set(id, entry)
      return entry.message
    }
    const shown = confirmed.map((message) => {
      const isOwn = ownIds.has(message.client_id) || (me.id !== null && message.sender_id === me.id)
      // Notes and system messages are delivered to nobody.
      const isAddressed = isOwn && message.message_type !== 'system' && message.message_type !== 'note'
      const status = isAddressed ? confirmedStatus(message, far) : undefined
      return keep(message.client_id, message, status, () => showConfirmed(message, isOwn, status))
    })
    const isStuck = new Set<string>()
    const waiting = pending.map((item) => {
      const isBehind = isStuck.has(item.booking)
      if (item.failure && item.failure.kind !== 'rejected') isStuck.add(item.booking)
      return keep(item.id, item, isBehind ? 'behind' : '', () => showPending(item, me, isBehind))
    })
    this.#before = after
    return [...shown, ...waiting]
  }
}

function confirmedStatus({ seq }: ServerMessage, far: FarSide | undefined): DeliveryStatus {
  if (!far) return 'sent'
  return seq <= far.read ? 'read' : seq <= far.delivered ? 'delivered' : 'sent'
}

function showConfirmed(message: ServerMessage, isOwn: boolean, status: DeliveryStatus | undefined): ChatMessage {
  const { id, client_id, content, sender_role, metadata, ...rest } = message
  return {
    ...rest,
    id: client_id,
    message_id: id,
    content: content ?? '',
    message: content ?? '',
    sender_role,
    sender_type: sender_role,
    metadata: metadata ?? {},
    isOwn,
    retry_count: 0,
    ...(status && { delivery_status: status }),
  }
}

function showPending(item: OutboxItem, me: Me, isBehind: boolean): ChatMessage {
  const { id, booking, content, type, metadata, createdAt, attempts, failure, waiting } = item
  const why = isBehind ? 'previous' : waiting
  return {
    id,
    message_id: null,
    booking_id: booking,
    seq: null,
    content,
    message: content,
    sender_role: me.role,
    sender_type: me.role,
    sender_id: me.id,
    message_type: type,
    metadata,
    created_at: createdAt,
    deleted_at: null,
    isOwn: true,
    delivery_status: failure ? 'failed' : 'sending',
    retry_count: Math.max(0, attempts - 1),
    ...(failure && { failure }),
    ...(why && { waiting: why }),
  }
}
