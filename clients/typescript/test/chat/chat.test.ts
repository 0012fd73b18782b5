import { describe, expect, it } from 'vitest'

import { memoryStore } from '../../src/chat'
import { CLIENT, lines, OPERATOR, RECEIVED, world } from './harness'

describe('a conversation', () => {
  it('shows what is there and says when it is complete', async () => {
    const { clock, open } = world()
    const chat = open(CLIENT)
    expect(chat.getSnapshot()).toMatchObject({ isLoading: true, connectionStatus: 'connecting' })
    await clock.settle()
    expect(lines(chat)).toEqual([RECEIVED])
    expect(chat.getSnapshot()).toMatchObject({ isLoading: false, connectionStatus: 'connected', status: 'pending', error: null })
  })

  it('goes from sending to sent, delivered and read', async () => {
    const { clock, open } = world()
    const client = open(CLIENT)
    const operator = open(OPERATOR)
    await clock.settle()
    const statuses: string[] = []
    client.on('delivery', ({ status }) => statuses.push(status))
    void client.send('  Hello from client ')
    await Promise.resolve().then(() => {}).then(() => {})
    await clock.settle()
    await clock.advance(1_000)
    expect(lines(operator).at(-1)).toBe('Hello from client')
    await clock.advance(1_000)
    operator.markRead()
    await clock.advance(2_000)
    expect(statuses).toEqual(['sending', 'sent', 'delivered', 'read'])
  })

  it('shows a message at once, before the server has heard of it', async () => {
    const { clock, server, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    server.faults.unreachable = true
    void chat.send('Hello')
    for (let turn = 0; turn < 5; turn++) await Promise.resolve()
    expect(lines(chat)).toEqual([RECEIVED, 'Hello [sending]'])
  })

  it('keeps the key of a bubble, and every object that has not changed', async () => {
    const { clock, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    const first = chat.getSnapshot().messages[0]
    const sent = chat.send('Hello')
    await clock.settle()
    const { id } = await sent
    await clock.advance(3_000)
    expect(chat.getSnapshot().messages.at(-1)).toMatchObject({ id, seq: 2, delivery_status: 'sent', message: 'Hello', sender_type: 'client' })
    expect(chat.getSnapshot().messages[0]).toBe(first)
  })

  it('can be opened by code, in any letter case, and listens by id', async () => {
    const { clock, server, booking, open } = world()
    const chat = open(CLIENT, { bookingId: 'req1759286674249' })
    await clock.settle()
    expect(chat.getSnapshot().booking?.id).toBe(booking.id)
    const topics = server.sockets.flatMap(({ sent }) => sent.filter(({ event }) => event === 'phx_join').map(({ topic }) => topic))
    expect(topics).toEqual([`realtime:messages:${booking.id}`, `realtime:booking-status:${booking.id}`, `realtime:booking:${booking.id}`])
  })

  it('sends what was written before the code was resolved, in order', async () => {
    const { clock, server, booking, open } = world()
    server.faults.unreachable = true
    const chat = open(CLIENT, { bookingId: booking.code })
    void chat.send('one')
    void chat.send('two')
    await clock.settle()
    server.faults.unreachable = false
    await clock.advance(10_000)
    void chat.send('three')
    await clock.advance(10_000)
    expect(lines(chat)).toEqual([RECEIVED, 'one [sent]', 'two [sent]', 'three [sent]'])
  })

  it('tells a status change and its system message once each', async () => {
    const { clock, open } = world()
    const client = open(CLIENT)
    const operator = open(OPERATOR)
    await clock.settle()
    const told: string[] = []
    client.on('status', ({ status }) => told.push(`status ${status}`))
    client.on('message', ({ content }) => told.push(content))
    await operator.updateStatus('accepted')
    await clock.settle()
    expect(told.sort()).toEqual(['status accepted', '✅ Your booking has been accepted by our team...'])
    expect(client.getSnapshot().status).toBe('accepted')
    expect(operator.getSnapshot().status).toBe('accepted')
  })

  it('refuses a status change that somebody else made obsolete', async () => {
    const { clock, server, booking, open } = world()
    const operator = open(OPERATOR, { realtime: false, bookingId: booking.code })
    await clock.settle()
    server.database.setStatus(booking, 'accepted', { ...OPERATOR, name: 'Eve' })
    await expect(operator.updateStatus('declined')).rejects.toMatchObject({ code: 'status_conflict', details: { changed_by: 'Eve' } })
  })

  it('keeps the order of simultaneous messages the same on both sides', async () => {
    const { clock, open } = world()
    const client = open(CLIENT)
    const operator = open(OPERATOR)
    await clock.settle()
    for (let round = 0; round < 5; round++) {
      void client.send(`client ${round}`)
      void operator.send(`operator ${round}`)
    }
    await clock.advance(5_000)
    const contents = (chat: typeof client) => chat.getSnapshot().messages.map(({ content }) => content)
    expect(contents(client)).toEqual(contents(operator))
    expect(contents(client)).toHaveLength(11)
    expect(lines(client).filter((line) => line.startsWith('client'))).toEqual([0, 1, 2, 3, 4].map((n) => `client ${n} [delivered]`))
  })

  it('catches up after a loss: changes that were missed, once', async () => {
    const { clock, server, booking, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    server.faults.unreachable = true
    server.cut()
    await clock.settle()
    expect(chat.getSnapshot().connectionStatus).toBe('reconnecting')
    server.database.addMessage(booking, { sender_role: 'operator', sender_id: OPERATOR.id, content: 'missed' })
    server.database.setStatus(booking, 'accepted', OPERATOR)
    server.faults.unreachable = false
    await clock.advance(10_000)
    expect(lines(chat)).toEqual([RECEIVED, 'missed', '✅ Your booking has been accepted by our team...'])
    expect(chat.getSnapshot()).toMatchObject({ connectionStatus: 'connected', status: 'accepted' })
  })

  it('loads again what could not be recovered, and says so', async () => {
    const { clock, server, booking, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    const gaps: string[] = []
    chat.on('gap', ({ reason }) => gaps.push(reason))
    server.faults.unreachable = true
    server.cut()
    for (let n = 0; n < 120; n++) server.database.addMessage(booking, { sender_role: 'operator', content: `n${n}` })
    server.forget()
    server.faults.unreachable = false
    await clock.advance(10_000)
    expect(gaps).toContain('retention')
    expect(lines(chat)).toEqual(Array.from({ length: 50 }, (_, n) => `n${n + 70}`))
    expect(chat.getSnapshot().hasOlder).toBe(true)
    await chat.loadOlder()
    await chat.loadOlder()
    expect(lines(chat)).toHaveLength(121)
    expect(chat.getSnapshot().hasOlder).toBe(false)
  })

  it('shows what was deleted as deleted, on both sides', async () => {
    const { clock, open } = world()
    const client = open(CLIENT)
    const operator = open(OPERATOR)
    await clock.settle()
    const sent = client.send('secret')
    await clock.settle()
    await client.remove((await sent).id)
    await clock.settle()
    for (const chat of [client, operator]) {
      expect(chat.getSnapshot().messages.at(-1)).toMatchObject({ content: '', deleted_at: expect.any(String) })
    }
  })

  it('counts what is unread until it is read', async () => {
    const { clock, open } = world()
    const client = open(CLIENT)
    const operator = open(OPERATOR)
    await clock.settle()
    void operator.send('one')
    void operator.send('two')
    await clock.advance(3_000)
    expect(client.getSnapshot().unreadCount).toBe(2)
    client.markRead()
    await clock.advance(3_000)
    expect(client.getSnapshot().unreadCount).toBe(0)
    expect(lines(operator).at(-1)).toBe('two [read]')
  })

  it('says receipts at most once a second, however much comes', async () => {
    const { clock, server, booking, open } = world()
    open(CLIENT)
    await clock.settle()
    for (let n = 0; n < 50; n++) {
      server.database.addMessage(booking, { sender_role: 'operator', content: `n${n}` })
      await clock.advance(100)
    }
    const receipts = server.requests.filter((request) => request === 'POST /api/receipts').length
    expect(receipts).toBeGreaterThan(2)
    expect(receipts).toBeLessThanOrEqual(6)
  })

  it('shows who types and who is there', async () => {
    const { clock, open } = world()
    const client = open(CLIENT)
    const operator = open(OPERATOR)
    await clock.settle()
    expect(client.getSnapshot().members).toEqual([{ id: OPERATOR.id, role: 'operator', name: 'Dana', isAway: false }])
    operator.setTyping(true)
    operator.setTyping(true)
    await clock.settle()
    expect(client.getSnapshot().typing).toMatchObject([{ name: 'Dana' }])
    await clock.advance(5_000)
    expect(client.getSnapshot().typing).toEqual([])
    operator.setTyping(true)
    await clock.settle()
    void operator.send('there')
    await clock.settle()
    expect(client.getSnapshot().typing).toEqual([])
    operator.close()
    await clock.advance(1_000)
    expect(client.getSnapshot().members).toHaveLength(1)
    await clock.advance(5_000)
    expect(client.getSnapshot().members).toEqual([])
  })

  it('tells that somebody has not looked for five minutes, and that they look again', async () => {
    const { clock, signals, open } = world()
    const client = open(CLIENT)
    open(OPERATOR)
    const isAway = () => client.getSnapshot().members.map((member) => member.isAway)
    await clock.settle()
    signals.isVisible = false
    await clock.advance(270_000)
    expect(isAway()).toEqual([false])
    await clock.advance(60_000)
    expect(isAway()).toEqual([true])
    signals.isVisible = true
    signals.tell('wake')
    await clock.settle()
    expect(isAway()).toEqual([false])
  })

  it('explains a booking that does not exist, and does not ask again', async () => {
    const { clock, server, open } = world()
    const chat = open(CLIENT, { bookingId: 'REQ0' })
    await clock.advance(60_000)
    expect(chat.getSnapshot()).toMatchObject({ isLoading: false, error: { code: 'booking_not_found' } })
    expect(server.requests.filter((request) => request === 'GET /api/messages')).toHaveLength(1)
    await expect(chat.send('x')).rejects.toMatchObject({ code: 'booking_not_found' })
    expect(lines(chat)).toEqual([])
  })

  it('rejects what cannot be sent, without a bubble', async () => {
    const { clock, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    await expect(chat.send('   ')).rejects.toMatchObject({ code: 'empty' })
    await expect(chat.send('x'.repeat(4_001))).rejects.toMatchObject({ code: 'too_long' })
    expect(lines(chat)).toEqual([RECEIVED])
  })

  it('leaves nothing behind when closed', async () => {
    const { clock, server, relayFor, booking } = world()
    const relay = relayFor(CLIENT)
    const { createChat } = await import('../../src/chat')
    const chat = createChat({ relay, bookingId: booking.id, openStore: async () => memoryStore() })
    await clock.settle()
    chat.setTyping(true)
    void chat.send('x')
    chat.close()
    await clock.advance(60_000)
    expect(clock.pending).toBe(0)
    expect(server.connections).toBe(0)
  })

  it('uses the newest messages every 5 s where live updates are blocked', async () => {
    const { clock, server, booking, open } = world()
    Object.assign(server.faults, { webSocketsBlocked: true, streamsBlocked: true })
    const chat = open(CLIENT)
    await clock.advance(30_000)
    expect(chat.getSnapshot()).toMatchObject({ connectionStatus: 'connected', transport: 'poll' })
    server.database.addMessage(booking, { sender_role: 'operator', content: 'polled' })
    server.database.setStatus(booking, 'accepted', OPERATOR)
    await clock.advance(5_000)
    expect(lines(chat)).toContain('polled')
    expect(chat.getSnapshot().status).toBe('accepted')
    const sent = chat.send('answer')
    await clock.settle()
    expect((await sent).delivery_status).toBe('sent')
  })
})
