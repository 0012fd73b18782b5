import { onTestFinished } from 'vitest'

// Loaded here already, so that no test waits for a file while its clock stands still.
import '../../src/chat/activity'
import '../../src/chat/outbox'
import '../../src/core/change-stream'

import { createRelay, type Relay, type RelayOptions } from '../../src/core'
import { type Chat, type ChatOptions, createChat, memoryStore } from '../../src/chat'
import { createFakeRelay, FakeClock, type FakeRelay, fakeToken, type FakeUser } from '../../src/testing'
import { FakeSignals } from '../core/harness'

export const CLIENT: FakeUser = { id: 'c0000000-0000-4000-8000-000000000001', role: 'client', name: 'Ann' }
export const OPERATOR: FakeUser = { id: 'd0000000-0000-4000-8000-000000000002', role: 'operator', name: 'Dana' }

export interface World {
  clock: FakeClock
  server: FakeRelay
  signals: FakeSignals
  booking: ReturnType<FakeRelay['database']['openBooking']>
  relayFor(user: FakeUser, options?: RelayOptions): Relay
  open(user: FakeUser, options?: Partial<ChatOptions>): Chat
}

/** A booking, its server and a clock that stands still; conversations are opened for either side. */
export function world(): World {
  const clock = new FakeClock()
  const undo = clock.install()
  const server = createFakeRelay({ now: clock.now })
  const signals = new FakeSignals()
  const booking = server.database.openBooking('REQ1759286674249', CLIENT.id, 'Ann')
  const ends: (() => void)[] = []
  onTestFinished(() => {
    ends.forEach((end) => end())
    undo()
  })
  const relayFor = (user: FakeUser, options: RelayOptions = {}) => {
    const relay = createRelay({
      url: 'http://relay.test',
      getToken: () => fakeToken(user),
      webSocket: server.WebSocket,
      fetch: server.fetch,
      clock,
      signals,
      ...options,
    })
    ends.push(() => relay.dispose())
    return relay
  }
  const open = (user: FakeUser, options: Partial<ChatOptions> = {}) => {
    const store = memoryStore()
    const chat = createChat({ relay: relayFor(user), bookingId: booking.id, openStore: async () => store, ...options })
    ends.unshift(() => chat.close())
    return chat
  }
  return { clock, server, signals, booking, relayFor, open }
}

/** What a conversation shows, a line for each message. */
export function lines(chat: Chat): string[] {
  return chat.getSnapshot().messages.map(({ content, delivery_status }) => `${content}${delivery_status ? ` [${delivery_status}]` : ''}`)
}

export const RECEIVED = '⏳ Your booking request has been received...'
