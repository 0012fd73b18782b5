import { describe, expect, it, onTestFinished } from 'vitest'

import { acquireChat, configure, memoryStore, realtimeMessageService, unifiedChatService } from '../../src/chat'
import { CLIENT, OPERATOR, RECEIVED, world } from './harness'

function setUp() {
  const made = world()
  configure(made.relayFor(CLIENT))
  onTestFinished(() => unifiedChatService.cleanup().then(() => {}))
  return made
}

describe('the services', () => {
  it('send, receive and follow the status of a booking named by its code', async () => {
    const { clock, server, booking } = setUp()
    const told: string[] = []
    unifiedChatService.subscribe(booking.code, {
      onMessage: ({ content }) => told.push(content),
      onStatusUpdate: (status) => told.push(status),
    })
    await clock.settle()
    const sent = unifiedChatService.sendMessage(booking.code, 'Hello')
    await clock.settle()
    expect(await sent).toMatchObject({ content: 'Hello', delivery_status: 'sent', booking_id: booking.id })
    server.database.setStatus(booking, 'accepted', OPERATOR, 'welcome')
    await clock.settle()
    expect(told.sort()).toEqual(['accepted', 'welcome'])
    const messages = unifiedChatService.getMessages(booking.code)
    await clock.settle()
    expect((await messages).map(({ content }) => content)).toEqual([RECEIVED, 'Hello', 'welcome'])
    const id = unifiedChatService.resolveBookingId(booking.code)
    await clock.settle()
    expect(await id).toBe(booking.id)
  })

  it('see what hooks do: delivery, connection, pending messages', async () => {
    const { clock, server, booking } = setUp()
    const deliveries: string[] = []
    const connections: string[] = []
    realtimeMessageService.addEventListener('delivery_status', ({ status }) => deliveries.push(status))
    realtimeMessageService.addEventListener('connection_status', ({ status }) => connections.push(status))
    const { configured } = { configured: (await import('../../src/chat')).defaultRelay() }
    const { chat, release } = acquireChat({ relay: configured, bookingId: booking.id, openStore: async () => memoryStore() })
    await clock.settle()
    expect(realtimeMessageService.getConnectionStatus()).toBe('connected')
    server.faults.unreachable = true
    server.cut()
    void chat.send('Hello')
    await clock.advance(2_000)
    expect(realtimeMessageService.getPendingMessagesCount()).toBe(1)
    server.faults.unreachable = false
    await clock.advance(20_000)
    expect(realtimeMessageService.getPendingMessagesCount()).toBe(0)
    expect([...new Set(deliveries)]).toEqual(['sending', 'sent'])
    expect(connections).toEqual(['connected', 'reconnecting', 'connected'])
    release()
  })

  it('clean up without losing what is unsent, unless told to', async () => {
    const { clock, server, booking } = setUp()
    server.faults.unreachable = true
    void unifiedChatService.sendMessage(booking.id, 'kept')
    await clock.settle()
    expect(await realtimeMessageService.cleanup()).toEqual([])
    expect(realtimeMessageService.getPendingMessagesCount()).toBe(1)
    void unifiedChatService.sendMessage(booking.id, 'dropped')
    await clock.settle()
    expect(await realtimeMessageService.cleanup({ discardQueue: true })).toEqual(['kept', 'dropped'])
    await clock.advance(2_000)
    expect(realtimeMessageService.getPendingMessagesCount()).toBe(0)
  })

  it('write a system message once for a status', async () => {
    const { clock, server, booking, relayFor } = setUp()
    configure(relayFor(OPERATOR))
    server.database.setStatus(booking, 'accepted', OPERATOR)
    const told = unifiedChatService.sendSystemMessage(booking.id, '🔄 Status updated to: accepted', { status: 'accepted' })
    await clock.settle()
    expect((await told).content).toBe('✅ Your booking has been accepted by our team...')
    expect(server.database.messagesOf(booking)).toHaveLength(2)
  })
})
