import { onTestFinished } from 'vitest'

import { createRelay, type Relay, type RelayOptions } from '../../src/core'
import type { Signals } from '../../src/core/signals'
import { FakeClock } from '../../src/testing/fake-clock'
import { scriptSockets, type SocketScript } from '../../src/testing/scripted-socket'

/** A device whose network and screen a test controls. */
export class FakeSignals implements Signals {
  isOnline = true
  isVisible = true
  readonly listeners = new Set<(signal: 'online' | 'offline' | 'wake') => void>()
  online = () => this.isOnline
  visible = () => this.isVisible
  listen(tell: (signal: 'online' | 'offline' | 'wake') => void) {
    this.listeners.add(tell)
    return () => void this.listeners.delete(tell)
  }
  tell(signal: 'online' | 'offline' | 'wake') {
    if (signal !== 'wake') this.isOnline = signal === 'online'
    for (const tell of [...this.listeners]) tell(signal)
  }
}

export interface Setup {
  clock: FakeClock
  signals: FakeSignals
  script: SocketScript
  relay: Relay
}

/** A token that ends at `expiresAt`, milliseconds since 1970. */
export function token(claims: Record<string, unknown> = {}, expiresAt?: number): string {
  const part = (value: object) => btoa(JSON.stringify(value)).replace(/=/g, '').replace(/\+/g, '-').replace(/\//g, '_')
  return `${part({ alg: 'HS256' })}.${part({ role: 'authenticated', ...claims, ...(expiresAt && { exp: expiresAt / 1000 }) })}.x`
}

/** A relay on a clock that stands still, with sockets that a test plays the server of. */
export function setUp(options: RelayOptions = {}): Setup {
  const clock = new FakeClock()
  const undo = clock.install()
  const signals = new FakeSignals()
  const script = scriptSockets()
  const fetch = () => Promise.reject(new TypeError('fetch failed'))
  const relay = createRelay({ url: 'http://relay.test', key: 'k', webSocket: script.WebSocket, fetch, clock, signals, ...options })
  onTestFinished(() => {
    relay.dispose()
    undo()
  })
  return { clock, signals, script, relay }
}

export const system = (message: string, more: object = {}, status = 'ok') => ({
  channel: 'todos',
  extension: 'postgres_changes',
  status,
  message,
  ...more,
})

export const inserted = (id: number, cursor: string) => ({
  ids: [7],
  data: {
    schema: 'public',
    table: 'todos',
    type: 'INSERT',
    commit_timestamp: '2026-03-04T05:06:07.089Z',
    columns: [{ name: 'id', type: 'int8' }],
    record: { id },
    errors: null,
  },
  cursor,
})

export const TOPIC = 'realtime:todos'

/** Plays the server until the subscription is live at `cursor`. */
export async function goLive({ clock, script }: Setup, cursor = 'c0', recovered = true): Promise<void> {
  await clock.settle()
  if (script.socket.readyState === 0) script.socket.accept()
  await clock.settle()
  script.socket.reply('phx_join', { postgres_changes: [{ id: 7 }] })
  script.socket.push(TOPIC, 'system', system('Subscribed to PostgreSQL', { cursor, recovered }))
  await clock.settle()
}

/** The `since` of each entry in the last join. */
export function joinedSince(script: SocketScript): unknown[] {
  const payload = script.socket.last('phx_join')?.payload as { config: { postgres_changes: { since: unknown }[] } }
  return payload.config.postgres_changes.map((entry) => entry.since)
}
