import { useEffect, useState } from 'react'

import type { RelayError } from '../core'
import type { ConnectionPhase } from '../core'
import { Banner, ChatOfflineBanner, useLate } from './status-components'
import { useTexts } from './text-context'

export interface ConnectionFacts {
  connectionStatus: ConnectionPhase
  network: 'online' | 'offline'
  transport: string | null
  nextRetryAt: number | null
  isDurable: boolean
  pendingCount: number
  error: RelayError | null
}

/** Milliseconds after which a loss is worth a word, and a banner. Most heal sooner. */
const WORD_DELAY = 1_500
const BANNER_DELAY = 5_000

/** The status to show: a loss that heals at once is none. */
export function useCalmStatus({ connectionStatus, network }: Pick<ConnectionFacts, 'connectionStatus' | 'network'>): ConnectionPhase {
  const isAway = connectionStatus !== 'connected' && network === 'online'
  const [wasConnected, setConnected] = useState(false)
  useEffect(() => {
    // After "disconnected" has been seen, coming back is news at once.
    if (connectionStatus === 'connected' || connectionStatus === 'disconnected') setConnected(connectionStatus === 'connected')
  }, [connectionStatus])
  const isLate = useLate(isAway, WORD_DELAY)
  return isAway && wasConnected && !isLate ? 'connected' : connectionStatus
}

/** The banner that the state of the connection calls for, if any. */
export function ConnectionNotice({ facts, onRetry }: { facts: ConnectionFacts; onRetry: () => unknown }) {
  const texts = useTexts()
  const { connectionStatus, network, transport, nextRetryAt, isDurable, pendingCount, error } = facts
  const isLong = useLate(connectionStatus !== 'connected', BANNER_DELAY)
  // An answer may come before the WebSocket does, which proves nothing against it.
  const isPolling = useLate(transport === 'poll', BANNER_DELAY)
  const seconds = useSecondsUntil(isLong ? nextRetryAt : null)
  useLeaveGuard(!isDurable && pendingCount > 0)
  if (network === 'offline') return <ChatOfflineBanner onRetry={onRetry} />
  if (error?.code === 'auth_required') return <Banner kind="error">{texts.signIn}</Banner>
  if (isLong) {
    return (
      <Banner kind="pending">
        <span>{texts.reconnecting}</span>
        <button type="button" className="pgr-link" onClick={() => void onRetry()}>
          {seconds > 0 ? texts.retryIn(seconds) : texts.retryNow}
        </button>
      </Banner>
    )
  }
  if (isPolling) return <Banner kind="note">{texts.polling}</Banner>
  if (!isDurable && pendingCount > 0) return <Banner kind="note">{texts.notDurable}</Banner>
  return null
}

function useSecondsUntil(time: number | null): number {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    if (time === null) return
    setNow(Date.now())
    const timer = setInterval(() => setNow(Date.now()), 1_000)
    return () => clearInterval(timer)
  }, [time])
  return time === null ? 0 : Math.max(0, Math.ceil((time - now) / 1_000))
}

/** Asks before the page is left with messages that would be lost. */
function useLeaveGuard(isOn: boolean): void {
  useEffect(() => {
    if (!isOn) return
    const ask = (event: BeforeUnloadEvent) => event.preventDefault()
    window.addEventListener('beforeunload', ask)
    return () => window.removeEventListener('beforeunload', ask)
  }, [isOn])
}
