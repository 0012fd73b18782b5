import { useEffect, useState, useSyncExternalStore } from 'react'

import { Inbox, type InboxSnapshot } from '../chat'
import type { Relay, RelayStatus, Row } from '../core'
import { useRelay } from './relay-context'

const NOTHING = () => () => {}

/** The operators' queue; null before the first effect. `onMessage` hears of messages in any conversation. */
export function useInbox({ relay: given, onMessage }: { relay?: Relay; onMessage?: (message: Row) => void } = {}): {
  inbox: Inbox | null
  snapshot: InboxSnapshot | null
} {
  const context = useRelay()
  const relay = given ?? context
  const [inbox, setInbox] = useState<Inbox | null>(null)
  useEffect(() => {
    if (!relay) return
    const made = new Inbox(relay)
    setInbox(made)
    return () => {
      setInbox(null)
      made.close()
    }
  }, [relay])
  useEffect(() => (inbox && onMessage ? inbox.on('message', onMessage) : undefined), [inbox, onMessage])
  const snapshot = useSyncExternalStore(inbox ? inbox.subscribe : NOTHING, inbox ? inbox.getSnapshot : () => null, () => null)
  return { inbox, snapshot }
}

/** What the connection is up to; null while rendering on a server. */
export function useRelayStatus(given?: Relay): RelayStatus | null {
  const context = useRelay()
  const relay = given ?? context
  return useSyncExternalStore(relay ? relay.status.subscribe : NOTHING, relay ? relay.status.get : () => null, () => null)
}
