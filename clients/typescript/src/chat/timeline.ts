/**
 * A conversation as a value: what the server has, in its order, and behind it what is still to be sent, in ours.
 * Everything that can happen to a message is a function here, and each may happen twice, late, or in any order.
 */
import type { ServerMessage } from './message'
import type { OutboxItem } from './outbox-store'

export interface Timeline {
  /** Ordered by `seq`; one per `client_id`. */
  readonly confirmed: readonly ServerMessage[]
  /** What has been confirmed is not in here. */
  readonly pending: readonly OutboxItem[]
}

export const EMPTY: Timeline = { confirmed: [], pending: [] }

/** The server has these: an answer, an echo, a page, a replay. */
export function confirm(timeline: Timeline, messages: readonly ServerMessage[]): Timeline {
  if (messages.length === 0) return timeline
  const known = new Map(timeline.confirmed.map((message) => [message.client_id, message]))
  for (const message of messages) {
    const before = known.get(message.client_id)
    // Deleted stays deleted, whatever comes late.
    if (!before || !before.deleted_at || message.deleted_at) known.set(message.client_id, message)
  }
  return {
    confirmed: [...known.values()].sort((a, b) => a.seq - b.seq),
    pending: timeline.pending.filter(({ id }) => !known.has(id)),
  }
}

/** A page that may not follow on what is there: what is older goes, and can be loaded again. */
export function restart(timeline: Timeline, page: readonly ServerMessage[]): Timeline {
  const last = page.at(-1)?.seq ?? 0
  return confirm({ confirmed: timeline.confirmed.filter(({ seq }) => seq > last), pending: timeline.pending }, page)
}

/** An item of the outbox came, or changed. */
export function enqueue(timeline: Timeline, item: OutboxItem): Timeline {
  if (timeline.confirmed.some(({ client_id }) => client_id === item.id)) return timeline
  const pending = [...timeline.pending.filter(({ id }) => id !== item.id), item].sort((a, b) => a.order - b.order)
  return { confirmed: timeline.confirmed, pending }
}

/** An item left the outbox. */
export function drop(timeline: Timeline, id: string): Timeline {
  return { confirmed: timeline.confirmed, pending: timeline.pending.filter((item) => item.id !== id) }
}
