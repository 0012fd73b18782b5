import { describe, expect, it, onTestFinished } from 'vitest'

import { createRelay, type RelayOptions } from '../../src/core'
// Loaded here already, so that no test waits for a file while its clock stands still.
import '../../src/core/change-stream'
import { EventParser } from '../../src/core/event-stream'
import { createFakeRelay, FakeClock, fakeToken } from '../../src/testing'
import { FakeSignals } from './harness'

const USER = { id: 'op', role: 'operator' as const }

function setUp(options: RelayOptions = {}) {
  const clock = new FakeClock()
  const undo = clock.install()
  const server = createFakeRelay({ now: clock.now })
  const signals = new FakeSignals()
  const booking = server.database.openBooking('REQ1', 'client-1')
  const relay = createRelay({
    url: 'http://relay.test',
    getToken: () => fakeToken(USER),
    webSocket: server.WebSocket,
    fetch: server.fetch,
    clock,
    signals,
    ...options,
  })
  onTestFinished(() => {
    relay.dispose()
    undo()
  })
  const told: string[] = []
  const subscribe = (snapshot?: () => Promise<string>) => {
    const sub = relay.changes<{ content: string }, string>({
      topic: 'm',
      entries: [{ table: 'messages', event: 'INSERT' }],
      ...(snapshot && { snapshot }),
    })
    sub.on('change', ({ record }) => told.push(record.content))
    sub.on('snapshot', ({ reason }) => told.push(`snapshot (${reason})`))
    return sub
  }
  const say = (content: string) => server.database.addMessage(booking, { content })
  return { clock, server, signals, relay, told, subscribe, say }
}

describe('where WebSockets are blocked', () => {
  it('changes come as server-sent events, and over a WebSocket again as soon as that works', async () => {
    const { clock, server, relay, told, subscribe, say } = setUp()
    server.faults.webSocketsBlocked = true
    subscribe()
    await clock.advance(5_000)
    expect(relay.status.get()).toMatchObject({ phase: 'connected', transport: 'sse' })
    say('one')
    await clock.settle()
    server.faults.webSocketsBlocked = false
    say('two')
    await clock.advance(30_000)
    expect(relay.status.get()).toMatchObject({ phase: 'connected', transport: 'ws' })
    say('three')
    await clock.settle()
    expect(told).toEqual(['one', 'two', 'three'])
  })

  it('a stream that breaks goes on where it was', async () => {
    const { clock, server, relay, told, subscribe, say } = setUp()
    server.faults.webSocketsBlocked = true
    subscribe()
    await clock.advance(5_000)
    say('one')
    await clock.settle()
    server.cut()
    say('two')
    await clock.advance(10_000)
    expect(relay.status.get().transport).toBe('sse')
    say('three')
    await clock.settle()
    expect(told).toEqual(['one', 'two', 'three'])
  })

  it('a change that was seen over a WebSocket is not told again by a stream', async () => {
    const { clock, server, told, subscribe, say } = setUp()
    subscribe()
    await clock.settle()
    say('one')
    await clock.settle()
    server.faults.webSocketsBlocked = true
    server.cut()
    say('two')
    await clock.advance(10_000)
    expect(told).toEqual(['one', 'two'])
  })

  it('and streams are held back too, the snapshot is loaded every 5 s', async () => {
    const { clock, server, relay, told, subscribe, say } = setUp()
    Object.assign(server.faults, { webSocketsBlocked: true, streamsBlocked: true })
    subscribe(async () => 'rows')
    await clock.advance(20_000)
    expect(relay.status.get()).toMatchObject({ phase: 'connected', transport: 'poll' })
    const before = told.length
    await clock.advance(15_000)
    expect(told.slice(before)).toEqual(['snapshot (poll)', 'snapshot (poll)', 'snapshot (poll)'])
    Object.assign(server.faults, { webSocketsBlocked: false })
    await clock.advance(30_000)
    expect(relay.status.get().transport).toBe('ws')
    const polled = told.length
    say('live')
    await clock.advance(30_000)
    expect(told.slice(polled)).toEqual(['live'])
  })

  it('and streams are ended at once, the snapshot is loaded instead', async () => {
    const { clock, server, relay, subscribe } = setUp()
    Object.assign(server.faults, { webSocketsBlocked: true, streamsRefused: true })
    subscribe(async () => 'rows')
    await clock.advance(20_000)
    expect(relay.status.get()).toMatchObject({ phase: 'connected', transport: 'poll' })
  })

  it('more entries than there may be streams are looked up every 5 s', async () => {
    const { clock, server, relay } = setUp()
    server.faults.webSocketsBlocked = true
    const entries = ['a', 'b', 'c', 'd'].map((table) => ({ table }))
    relay.changes({ topic: 'm', entries, snapshot: async () => 'rows' })
    await clock.advance(10_000)
    expect(relay.status.get().transport).toBe('poll')
    expect(server.requests.filter((request) => request === 'GET /events')).toHaveLength(0)
  })
})

describe('where nothing is reached', () => {
  it('is no reason to say that live updates are blocked', async () => {
    const { clock, server, relay, told, subscribe, say } = setUp()
    subscribe(async () => {
      await server.fetch('http://relay.test/api/bookings')
      return 'rows'
    })
    await clock.settle()
    server.faults.unreachable = true
    server.cut()
    say('missed')
    await clock.advance(60_000)
    expect(relay.status.get()).toMatchObject({ phase: 'reconnecting', transport: null })
    server.faults.unreachable = false
    await clock.advance(30_000)
    expect(relay.status.get()).toMatchObject({ phase: 'connected', transport: 'ws' })
    expect(told).toEqual(['snapshot (initial)', 'missed'])
  })

  it('transports that are not wanted are not used', async () => {
    const { clock, server, relay, subscribe } = setUp({ transports: ['ws'] })
    server.faults.webSocketsBlocked = true
    subscribe()
    await clock.advance(60_000)
    expect(relay.status.get().phase).toBe('reconnecting')
    expect(server.requests).toEqual([])
  })
})

describe('events', () => {
  const text = 'retry: 1000\n\n: hello\nevent: system\nid: c1\ndata: {"a":\ndata: 1}\n\r\ndata: x\r\n\r\n'
  const expected = [
    { name: 'system', id: 'c1', data: '{"a":\n1}' },
    { name: 'message', id: 'c1', data: 'x' },
  ]

  it('are read however the network cuts them', () => {
    for (let cut = 0; cut <= text.length; cut++) {
      const parser = new EventParser()
      expect([...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))]).toEqual(expected)
    }
  })
})
