import type { ChatMessage } from 'pgrelay/chat'

/** Minutes that the team usually takes to answer in this conversation: the median. Undefined where it has not answered yet. */
export function usualReplyMinutes(messages: readonly ChatMessage[]): number | undefined {
  const waits: number[] = []
  let askedAt: number | undefined
  for (const { sender_role, created_at } of messages) {
    const at = Date.parse(created_at)
    if (sender_role === 'client') askedAt ??= at
    if (sender_role !== 'operator' || askedAt === undefined) continue
    waits.push(at - askedAt)
    askedAt = undefined
  }
  const median = waits.sort((a, b) => a - b)[Math.floor(waits.length / 2)]
  return median === undefined ? undefined : Math.max(1, Math.ceil(median / 60_000))
}
