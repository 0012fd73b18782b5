import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import type { ServerMessage } from '../../src/chat'
import type { OutboxItem } from '../../src/chat/outbox-store'
import { confirm, drop, EMPTY, enqueue, restart, type Timeline } from '../../src/chat/timeline'
import { View } from '../../src/chat/view'

const ME = { id: 'me', role: 'client' as const, name: null }

const onServer = (seq: number, client_id: string, deleted = false): ServerMessage => ({
  id: `row-${seq}`,
  client_id,
  booking_id: 'b',
  seq,
  sender_role: 'client',
  sender_id: client_id.startsWith('own') ? 'me' : 'other',
  message_type: 'text',
  content: deleted ? null : client_id,
  metadata: {},
  created_at: '2026-01-01T00:00:00Z',
  deleted_at: deleted ? '2026-01-02T00:00:00Z' : null,
})

const inOutbox = (order: number, attempts: number, isFailed: boolean): OutboxItem => ({
  id: `own-${order}`,
  owner: 'me',
  booking: 'b',
  content: `own-${order}`,
  type: 'text',
  metadata: {},
  createdAt: '2026-01-01T00:00:00Z',
  order,
  attempts,
  ...(isFailed && { failure: { kind: 'server', code: 'x', message: 'x', retryable: true } }),
})

/** A conversation as it really went: some messages ours, some deleted later, the last ones of ours not sent yet. */
const history = fc.record({
  authors: fc.array(fc.boolean(), { minLength: 1, maxLength: 12 }),
  deleted: fc.array(fc.nat(11), { maxLength: 3 }),
  unsent: fc.nat(3),
})

type Event =
  | { kind: 'echo' | 'answer' | 'replay'; at: number }
  | { kind: 'page'; from: number; to: number }
  | { kind: 'queued' | 'tried' | 'failed' | 'retried'; own: number }

const event: fc.Arbitrary<Event> = fc.oneof(
  fc.record({ kind: fc.constantFrom('echo' as const, 'answer' as const, 'replay' as const), at: fc.nat(11) }),
  fc.record({ kind: fc.constant('page' as const), from: fc.nat(11), to: fc.nat(11) }),
  fc.record({ kind: fc.constantFrom('queued' as const, 'tried' as const, 'failed' as const, 'retried' as const), own: fc.nat(14) }),
)

describe('a timeline', () => {
  it('shows every message once and in its place, whatever comes in whatever order, however often', () => {
    fc.assert(
      fc.property(history, fc.array(event, { maxLength: 60 }), fc.nat(), ({ authors, deleted, unsent }, events, seed) => {
        const own = authors.map((isOwn, at) => (isOwn ? at : -1)).filter((at) => at >= 0)
        const idAt = (at: number) => (authors[at] ? `own-${own.indexOf(at)}` : `other-${at}`)
        const committed = authors.map((_, at) => onServer(at + 1, idAt(at)))
        const final = committed.map((message, at) => (deleted.includes(at) ? onServer(at + 1, idAt(at), true) : message))
        const ownCount = own.length + unsent
        let timeline: Timeline = EMPTY
        const step = (one: Event) => {
          if (one.kind === 'page') {
            timeline = confirm(timeline, final.slice(Math.min(one.from, one.to), Math.max(one.from, one.to) + 1))
          } else if ('at' in one) {
            const { at } = one
            // An echo or answer tells the message as it was first, a replay as it is now.
            if (at < authors.length) timeline = confirm(timeline, [(one.kind === 'replay' ? final : committed)[at]!])
          } else if (one.own < ownCount) {
            timeline = enqueue(timeline, inOutbox(one.own, one.kind === 'queued' ? 0 : 1, one.kind === 'failed'))
          }
          const shown = new View().render(timeline, undefined, ME, new Set())
          if (new Set(shown.map(({ id }) => id)).size !== shown.length) throw new Error('a message is shown twice')
          const isInOrder = shown.every(({ seq }, at) => at === 0 || (shown[at - 1]!.seq ?? Infinity) <= (seq ?? Infinity))
          if (!isInOrder) throw new Error('a message is out of its place')
        }
        events.forEach(step)
        // In the end everything has arrived, in an order of its own.
        const rest: Event[] = [
          ...final.map((_, at) => ({ kind: 'replay' as const, at })),
          ...Array.from({ length: ownCount }, (_, n) => ({ kind: 'queued' as const, own: n })),
        ]
        rest.sort((a, b) => ((JSON.stringify(a).length * 31 + seed) % 7) - ((JSON.stringify(b).length * 17 + seed) % 7))
        rest.forEach(step)
        const shown = new View().render(timeline, undefined, ME, new Set())
        const unsentIds = Array.from({ length: unsent }, (_, n) => `own-${own.length + n}`)
        expect(shown.map(({ id }) => id)).toEqual([...final.map(({ client_id }) => client_id), ...unsentIds])
        expect(shown.slice(0, final.length).map(({ deleted_at }) => deleted_at !== null)).toEqual(final.map(({ deleted_at }) => deleted_at !== null))
      }),
      { numRuns: 300 },
    )
  }, 60_000)

  it('a failure that comes late does not undo that a message was sent', () => {
    const sent = confirm(EMPTY, [onServer(1, 'own-0')])
    expect(enqueue(sent, inOutbox(0, 4, true))).toBe(sent)
  })

  it('nothing that is told twice makes a new value of an unsent message', () => {
    const one = enqueue(EMPTY, inOutbox(0, 0, false))
    expect(drop(one, 'own-0').pending).toEqual([])
    expect(drop(one, 'own-9').pending).toEqual(one.pending)
  })

  it('a page that does not follow on what is there takes its place', () => {
    const old = confirm(EMPTY, [onServer(1, 'other-1'), onServer(2, 'other-2')])
    const after = restart(enqueue(old, inOutbox(0, 0, false)), [onServer(90, 'other-90'), onServer(91, 'other-91')])
    expect(after.confirmed.map(({ seq }) => seq)).toEqual([90, 91])
    expect(after.pending).toHaveLength(1)
    expect(restart(confirm(old, [onServer(92, 'other-92')]), [onServer(91, 'other-91')]).confirmed.map(({ seq }) => seq)).toEqual([91, 92])
  })
})
