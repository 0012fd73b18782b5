import { describe, expect, it } from 'vitest'

import { backoff, BACKOFF_MAX } from '../../src/core/backoff'
import { goLive, inserted, setUp, token, TOPIC } from './harness'

const OPTIONS = { topic: 'todos', entries: [{ table: 'todos' }] }

describe('a relay', () => {
  it('does nothing before it is used', async () => {
    const { clock, script, signals } = setUp()
    await clock.advance(60_000)
    expect(script.sockets).toHaveLength(0)
    expect(clock.pending).toBe(0)
    expect(signals.listeners.size).toBe(0)
  })

  it('shows each phase of a connection', async () => {
    const setup = setUp()
    const { relay, clock, script, signals } = setup
    const phases: string[] = []
    relay.status.subscribe(({ phase, transport }) => phases.push(`${phase} ${transport}`))
    relay.changes(OPTIONS)
    await goLive(setup)
    script.socket.end()
    await clock.settle()
    expect(relay.status.get()).toMatchObject({ socket: 'waiting', attempt: 1, error: { code: 'unreachable' } })
    expect(relay.status.get().nextRetryAt).toBe(clock.now() + 500)
    await clock.advance(500)
    await goLive(setup)
    signals.tell('offline')
    await clock.settle()
    signals.tell('online')
    await goLive(setup)
    expect([...new Set(phases)]).toEqual(['connecting null', 'connected ws', 'reconnecting null', 'disconnected null'])
    expect(phases.at(-1)).toBe('connected ws')
    expect(phases.at(-2)).toBe('reconnecting null')
  })

  it('waits longer after each failure, and at once goes back to short pauses', async () => {
    const setup = setUp()
    const { relay, clock, script } = setup
    relay.changes(OPTIONS)
    await clock.settle()
    const pauses: number[] = []
    for (let attempt = 0; attempt < 7; attempt++) {
      script.socket.end()
      await clock.settle()
      const pause = relay.status.get().nextRetryAt! - clock.now()
      pauses.push(pause)
      await clock.advance(pause)
    }
    expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000])
    await goLive(setup)
    script.socket.end()
    await clock.settle()
    expect(relay.status.get().nextRetryAt! - clock.now()).toBe(500)
  })

  it('spreads clients over the whole pause', () => {
    expect(backoff(3, 0)).toBe(100)
    expect(backoff(3, 0.25)).toBe(1_000)
    expect(backoff(3, 0.999)).toBe(3_996)
    expect(backoff(99, 1)).toBe(BACKOFF_MAX)
  })

  it('notices a connection that is dead without having been closed', async () => {
    const setup = setUp()
    const { relay, clock, script } = setup
    relay.changes(OPTIONS)
    await goLive(setup)
    await clock.advance(25_000)
    expect(script.socket.last('heartbeat')?.topic).toBe('phoenix')
    script.socket.reply('heartbeat')
    await clock.advance(25_000)
    expect(script.sockets).toHaveLength(1)
    await clock.advance(10_000)
    expect(relay.status.get()).toMatchObject({ socket: 'waiting', error: { code: 'timeout' } })
    await clock.advance(500)
    expect(script.sockets).toHaveLength(2)
  })

  it('asks a connection whether it is alive when the device wakes up', async () => {
    const setup = setUp()
    const { relay, clock, script } = setup
    relay.changes(OPTIONS)
    await goLive(setup)
    clock.sleep(60_000)
    await clock.advance(0)
    expect(script.socket.last('heartbeat')).toBeDefined()
    await clock.advance(3_000)
    expect(script.socket.readyState).toBeGreaterThan(1)
    await clock.advance(500)
    expect(script.sockets).toHaveLength(2)
  })

  it('connects at once when the page comes to the front', async () => {
    const setup = setUp()
    const { relay, clock, script, signals } = setup
    relay.changes(OPTIONS)
    await goLive(setup)
    script.socket.end()
    await clock.settle()
    signals.tell('wake')
    await clock.settle()
    expect(script.sockets).toHaveLength(2)
  })

  it('gives up on a connection that does not open', async () => {
    const { relay, clock, script } = setUp()
    relay.changes(OPTIONS)
    await clock.advance(10_000)
    expect(relay.status.get()).toMatchObject({ socket: 'waiting', error: { code: 'timeout' } })
    await clock.advance(1_000)
    expect(script.sockets).toHaveLength(2)
  })

  it('connects with the key, and joins with the token', async () => {
    const user = token({ sub: 'u' })
    const setup = setUp({ key: 'anon', getToken: async () => user })
    setup.relay.changes(OPTIONS)
    await goLive(setup)
    expect(new URL(setup.script.socket.url).searchParams.get('apikey')).toBe('anon')
    expect(setup.script.socket.url).toMatch(/^ws:\/\/relay\.test\/realtime\/v1\/websocket\?.*vsn=2\.0\.0$/)
    expect(setup.script.socket.last('phx_join')?.payload).toMatchObject({ access_token: user })
  })

  it('replaces a token before it ends, without losing the channel', async () => {
    let asked = 0
    const setup = setUp({ getToken: () => token({ sub: `u${++asked}` }, setup.clock.now() + 600_000) })
    setup.relay.changes(OPTIONS)
    await goLive(setup)
    expect(asked).toBe(1)
    for (let beat = 0; beat < 23; beat++) {
      await setup.clock.advance(25_000)
      setup.script.socket.reply('heartbeat')
    }
    expect(asked).toBe(2)
    const sent = setup.script.socket.last('access_token')
    expect(sent).toMatchObject({ topic: TOPIC, payload: { access_token: setup.relay.tokens.current } })
    expect(setup.script.sockets).toHaveLength(1)
  })

  it('comes back with a new token after the server ended the channel over the old one', async () => {
    let asked = 0
    const setup = setUp({ getToken: () => token({ n: ++asked }) })
    const sub = setup.relay.changes(OPTIONS)
    const errors: string[] = []
    sub.on('error', (error) => errors.push(error.code))
    await goLive(setup)
    const { socket } = setup.script
    const join = socket.last('phx_join')!
    const payload = { channel: 'todos', extension: 'system', status: 'error', message: 'Token has expired 3 seconds ago' }
    socket.push(TOPIC, 'system', payload)
    socket.receive({ ...join, event: 'phx_close', payload: {} })
    await setup.clock.advance(500)
    expect(asked).toBe(2)
    expect(socket.last('phx_join')?.payload).toMatchObject({ access_token: setup.relay.tokens.current })
    await goLive(setup, 'c1')
    expect(sub.isLive).toBe(true)
    expect(errors).toContain('auth_required')
  })

  it('names the reason of a refused join, and joins again only if that can help', async () => {
    const setup = setUp()
    const sub = setup.relay.changes(OPTIONS)
    const ready = sub.ready()
    await setup.clock.settle()
    setup.script.socket.accept()
    setup.script.socket.reply('phx_join', { reason: 'ClientJoinRateLimitReached: Too many joins per second' }, 'error')
    await setup.clock.advance(1_000)
    expect(setup.script.socket.sent.filter(({ event }) => event === 'phx_join')).toHaveLength(2)
    setup.script.socket.reply('phx_join', { reason: 'Unauthorized: You do not have permissions' }, 'error')
    await expect(ready).rejects.toMatchObject({ code: 'denied', retryable: false })
    await setup.clock.advance(20_000)
    expect(setup.script.socket.sent.filter(({ event }) => event === 'phx_join')).toHaveLength(2)
  })

  it('goes quiet after its last user, and not before', async () => {
    const setup = setUp()
    const first = setup.relay.changes(OPTIONS)
    await goLive(setup)
    first.close()
    await setup.clock.advance(1_000)
    const second = setup.relay.changes(OPTIONS)
    await setup.clock.advance(10_000)
    expect(setup.script.sockets).toHaveLength(1)
    expect(setup.script.socket.readyState).toBe(1)
    second.close()
    await setup.clock.advance(30_000)
    expect(setup.script.socket.readyState).toBe(3)
    expect(setup.clock.pending).toBe(0)
    expect(setup.signals.listeners.size).toBe(0)
  })

  it('works on a platform without WebSocket once one is given, and says so if none is', async () => {
    const { clock, relay } = setUp({ webSocket: undefined as never, transports: ['ws'] })
    const native = globalThis.WebSocket
    expect(native).toBeUndefined()
    relay.changes(OPTIONS)
    await clock.settle()
    expect(relay.status.get().error?.cause).toMatchObject({ hint: 'pass one: createRelay({ webSocket })' })
  })

  it('tells changes in the order in which they came', async () => {
    const setup = setUp()
    const ids: unknown[] = []
    setup.relay.changes(OPTIONS).on('change', ({ record }) => ids.push(record['id']))
    await goLive(setup)
    for (let id = 0; id < 100; id++) setup.script.socket.push(TOPIC, 'postgres_changes', inserted(id, `c${id}`))
    expect(ids).toEqual(Array.from({ length: 100 }, (_, id) => id))
  })
})
