import { describe, expect, it, vi } from 'vitest'

import type { Relay } from '../../src/core'
import { goLive, inserted, joinedSince, setUp, system, TOPIC } from './harness'

const ENTRIES = [{ table: 'todos' }]

function open<S>(relay: Relay, snapshot?: (signal: AbortSignal) => Promise<S>) {
  const told: string[] = []
  const sub = relay.changes<{ id: number }, S>({ topic: 'todos', entries: ENTRIES, ...(snapshot && { snapshot }) })
  sub.on('change', (change) => told.push(`change ${change.record.id}`))
  sub.on('snapshot', ({ data, reason }) => told.push(`snapshot ${String(data)} (${reason})`))
  sub.on('live', ({ recovered }) => told.push(recovered ? 'live' : 'live, not recovered'))
  sub.on('gap', ({ reason }) => told.push(`gap ${reason}`))
  sub.on('lost', () => told.push('lost'))
  sub.on('error', (error) => told.push(`error ${error.code}`))
  return { sub, told }
}

describe('a subscription', () => {
  it('begins now and tells changes once it is live', async () => {
    const setup = setUp()
    const { told, sub } = open(setup.relay)
    await goLive(setup)
    expect(joinedSince(setup.script)).toEqual(['now'])
    setup.script.socket.push(TOPIC, 'postgres_changes', inserted(1, 'c1'))
    expect(told).toEqual(['live', 'change 1'])
    await expect(sub.ready()).resolves.toBeUndefined()
  })

  it('carries the newest cursor into every rejoin: of a change, of a checkpoint, of the start', async () => {
    const setup = setUp()
    const { told } = open(setup.relay)
    await goLive(setup, 'c0')
    setup.script.socket.end()
    await setup.clock.advance(1_000)
    await goLive(setup, 'c0')
    expect(joinedSince(setup.script)).toEqual(['c0'])
    setup.script.socket.push(TOPIC, 'postgres_changes', inserted(1, 'c1'))
    setup.script.socket.end()
    await setup.clock.advance(1_000)
    await goLive(setup, 'c1')
    expect(joinedSince(setup.script)).toEqual(['c1'])
    setup.script.socket.push(TOPIC, 'system', system('checkpoint', { cursor: 'c9' }))
    setup.script.socket.end()
    await setup.clock.advance(1_000)
    await goLive(setup, 'c9')
    expect(joinedSince(setup.script)).toEqual(['c9'])
    expect(told).toEqual(['live', 'lost', 'live', 'change 1', 'lost', 'live', 'lost', 'live'])
  })

  it('tells a change once, however often it comes', async () => {
    const setup = setUp()
    const { told } = open(setup.relay)
    await goLive(setup)
    for (const _ of [1, 2]) setup.script.socket.push(TOPIC, 'postgres_changes', inserted(1, 'c1'))
    setup.script.socket.end()
    await setup.clock.advance(1_000)
    setup.script.socket.accept()
    setup.script.socket.reply('phx_join', { postgres_changes: [{ id: 7 }] })
    setup.script.socket.push(TOPIC, 'postgres_changes', inserted(1, 'c1'))
    setup.script.socket.push(TOPIC, 'postgres_changes', inserted(2, 'c2'))
    expect(told.filter((line) => line.startsWith('change'))).toEqual(['change 1', 'change 2'])
  })

  it('tells the snapshot first, then what was committed meanwhile', async () => {
    const setup = setUp()
    let answer!: (rows: string) => void
    const { told } = open(setup.relay, () => new Promise<string>((resolve) => (answer = resolve)))
    await goLive(setup)
    setup.script.socket.push(TOPIC, 'postgres_changes', inserted(1, 'c1'))
    expect(told).toEqual([])
    answer('rows')
    await setup.clock.settle()
    expect(told).toEqual(['snapshot rows (initial)', 'change 1', 'live'])
  })

  it('loads the snapshot again after a gap, and holds changes back until it is there', async () => {
    const setup = setUp()
    const answers: ((rows: string) => void)[] = []
    const { told } = open(setup.relay, () => new Promise<string>((resolve) => answers.push(resolve)))
    await goLive(setup)
    answers[0]!('old')
    await setup.clock.settle()
    setup.script.socket.push(TOPIC, 'system', system('must_refetch', { reason: 'hole', cursor: 'c5' }, 'error'))
    setup.script.socket.push(TOPIC, 'postgres_changes', inserted(6, 'c6'))
    // The first answer is overtaken by a second gap.
    setup.script.socket.push(TOPIC, 'system', system('must_refetch', { reason: 'schema', cursor: 'c7' }, 'error'))
    answers[1]!('overtaken')
    answers[2]!('new')
    await setup.clock.settle()
    expect(told).toEqual(['snapshot old (initial)', 'live', 'gap hole', 'gap schema', 'snapshot new (gap)', 'change 6'])
    setup.script.socket.end()
    await setup.clock.advance(1_000)
    await goLive(setup)
    expect(joinedSince(setup.script)).toEqual(['c7'])
  })

  it('says so when the server does not resume', async () => {
    const setup = setUp()
    const { told } = open(setup.relay)
    await setup.clock.settle()
    setup.script.socket.accept()
    setup.script.socket.reply('phx_join', { postgres_changes: [{ id: 7 }] })
    setup.script.socket.push(TOPIC, 'system', system('Subscribed to PostgreSQL'))
    setup.script.socket.end()
    await setup.clock.advance(1_000)
    setup.script.socket.accept()
    setup.script.socket.reply('phx_join', { postgres_changes: [{ id: 7 }] })
    setup.script.socket.push(TOPIC, 'system', system('Subscribed to PostgreSQL'))
    expect(told).toEqual(['live', 'lost', 'gap no_cursor', 'live, not recovered'])
  })

  it('tries the snapshot again until it loads', async () => {
    const setup = setUp()
    const load = vi.fn().mockRejectedValueOnce(new Error('down')).mockResolvedValue('rows')
    const { told } = open(setup.relay, load)
    await goLive(setup)
    expect(told).toEqual(['error unreachable'])
    await setup.clock.advance(1_000)
    expect(told).toEqual(['error unreachable', 'snapshot rows (initial)', 'live'])
  })

  it('names the entry that cannot be live', async () => {
    const setup = setUp()
    const { sub, told } = open(setup.relay)
    const failed = vi.fn()
    sub.on('error', failed)
    const ready = sub.ready()
    await setup.clock.settle()
    setup.script.socket.accept()
    setup.script.socket.reply('phx_join', { postgres_changes: [{ id: 7 }] })
    setup.script.socket.push(TOPIC, 'system', system('Unable to subscribe', { binding: 7 }, 'error'))
    expect(told).toEqual(['error binding_refused'])
    expect(failed.mock.calls[0]![0].details).toEqual({ entry: ENTRIES[0] })
    await expect(ready).rejects.toMatchObject({ code: 'binding_refused' })
  })

  it('is silent once closed, also in the middle of what it tells', async () => {
    const setup = setUp()
    const { sub, told } = open(setup.relay)
    sub.on('change', () => sub.close())
    await goLive(setup)
    const { socket } = setup.script
    socket.push(TOPIC, 'postgres_changes', inserted(1, 'c1'))
    socket.push(TOPIC, 'postgres_changes', inserted(2, 'c2'))
    expect(told).toEqual(['live', 'change 1'])
    expect(socket.last('phx_leave')?.topic).toBe(TOPIC)
  })

  it('outlives a listener that throws', async () => {
    const setup = setUp()
    const { sub, told } = open(setup.relay)
    const uncaught: unknown[] = []
    const keep = (error: unknown) => uncaught.push(error)
    process.on('uncaughtException', keep)
    sub.on('change', () => {
      throw new Error('listener')
    })
    await goLive(setup)
    setup.script.socket.push(TOPIC, 'postgres_changes', inserted(1, 'c1'))
    setup.script.socket.push(TOPIC, 'postgres_changes', inserted(2, 'c2'))
    await setup.clock.settle()
    process.off('uncaughtException', keep)
    expect(told).toEqual(['live', 'change 1', 'change 2'])
    expect(uncaught).toHaveLength(2)
  })
})
