import type { LinkState } from './link'
import type { RelayError } from './relay-error'
import type { Transport } from './subscription'

/** One word for people. `connected`: live, and everything missed has been caught up with. */
export type ConnectionPhase = 'connecting' | 'connected' | 'reconnecting' | 'disconnected'

/**
 * Two facts that are often confused, kept apart: whether the device has a network, and whether the relay is reached.
 */
export interface RelayStatus {
  network: 'online' | 'offline'
  socket: 'idle' | 'connecting' | 'open' | 'waiting'
  /** How changes arrive now; null while they do not. */
  transport: Transport | null
  phase: ConnectionPhase
  /** Since when the phase is what it is, milliseconds since 1970. */
  since: number
  /** Attempts to connect since the connection was lost; 0 while it stands. */
  attempt: number
  /** When the next attempt begins, milliseconds since 1970. */
  nextRetryAt: number | null
  /** What went wrong last; null while all is well. */
  error: RelayError | null
  /** Milliseconds that the last heartbeat took. */
  latency: number | null
}

export interface Facts {
  online: boolean
  link: LinkState
  mode: Transport
  /** Whether every subscription is live. */
  allLive: boolean
  /** Whether anything ever was. */
  wasConnected: boolean
  error: RelayError | null
  latency: number | null
}

/** The status that follows from the facts, keeping `before` where nothing changed. */
export function deriveStatus(facts: Facts, before: RelayStatus | undefined, now: number): RelayStatus {
  const { link, mode, allLive } = facts
  // A connection that stands is better proof than what the device believes: it may know no network but itself.
  const online = facts.online || link.kind === 'open'
  const reached = link.kind === 'open' || mode !== 'ws'
  const transport = online && reached && allLive ? (link.kind === 'open' ? 'ws' : mode) : null
  const phase = online ? derivePhase(facts, transport) : 'disconnected'
  const status: RelayStatus = {
    network: online ? 'online' : 'offline',
    socket: link.kind,
    transport,
    phase,
    since: before?.phase === phase ? before.since : now,
    attempt: 'attempt' in link ? link.attempt : 0,
    nextRetryAt: link.kind === 'waiting' ? link.retryAt : null,
    error: transport ? null : facts.error,
    latency: facts.latency,
  }
  const isSame = before && (Object.keys(status) as (keyof RelayStatus)[]).every((key) => before[key] === status[key])
  return isSame ? before : status
}

function derivePhase({ link, wasConnected }: Facts, transport: Transport | null): ConnectionPhase {
  if (transport) return 'connected'
  if (link.kind === 'idle') return wasConnected ? 'disconnected' : 'connecting'
  return wasConnected || ('attempt' in link && link.attempt > 2) ? 'reconnecting' : 'connecting'
}
