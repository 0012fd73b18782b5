import { useEffect, useState } from 'react'

import type { ChatMessage, DeliveryStatus } from '../chat'
import type { ConnectionPhase } from '../core'
import { Icon } from './icon'
import { useTexts } from './text-context'

type Retry = (() => unknown) | undefined

function RetryButton({ onRetry, children }: { onRetry: Retry; children: string }) {
  if (!onRetry) return null
  return (
    <button type="button" className="pgr-link" onClick={() => void onRetry()}>
      {children}
    </button>
  )
}

/** The connection in a word and a colour, with the number of unsent messages. */
export function ConnectionStatus({
  status,
  pendingCount = 0,
  onRetry,
  className = '',
}: {
  status: ConnectionPhase
  pendingCount?: number
  onRetry?: Retry
  className?: string
}) {
  const texts = useTexts()
  return (
    <div className={`pgr-connection ${className}`} data-status={status} role="status">
      <span className="pgr-dot" aria-hidden="true" />
      <span>{texts.connection[status]}</span>
      {pendingCount > 0 && <span className="pgr-muted">{texts.pending(pendingCount)}</span>}
      {status === 'disconnected' && <RetryButton onRetry={onRetry}>{texts.retry}</RetryButton>}
    </div>
  )
}

const ICONS = { sending: 'clock', sent: 'check', delivered: 'checks', read: 'checks', failed: 'cross' } as const

/** How far a message has come: a clock, one check, two checks, or a cross with a way out. */
export function MessageDeliveryIndicator({
  status,
  retryCount = 0,
  onRetry,
  waiting,
  failure,
}: {
  status: DeliveryStatus
  retryCount?: number | undefined
  onRetry?: Retry
  waiting?: ChatMessage['waiting']
  failure?: ChatMessage['failure']
}) {
  const texts = useTexts()
  const words = status === 'sending' && waiting ? texts.waiting[waiting] : status === 'sending' && retryCount > 0 ? texts.tryingAgain(retryCount) : texts.delivery[status]
  const isLate = useLate(status === 'sending', 3_000)
  const isSpoken = status === 'failed' || status === 'read' || (status === 'sending' && (isLate || waiting || retryCount > 0))
  const reason = failure && (texts.failures[failure.code] ?? failure.message)
  return (
    <span className="pgr-delivery" data-status={status} title={words}>
      <Icon name={ICONS[status]} />
      <span className={isSpoken ? '' : 'pgr-hidden'}>{words}</span>
      {reason && <span>{reason}</span>}
      {status === 'failed' && failure?.retryable !== false && <RetryButton onRetry={onRetry}>{texts.retry}</RetryButton>}
    </span>
  )
}

/** Whether `isOn` has been true for so many milliseconds. */
export function useLate(isOn: boolean, delay: number): boolean {
  const [isLate, setLate] = useState(false)
  useEffect(() => {
    if (!isOn) return
    const timer = setTimeout(() => setLate(true), delay)
    return () => {
      clearTimeout(timer)
      setLate(false)
    }
  }, [isOn, delay])
  return isOn && isLate
}

/** Says that nothing can be reached. `strict` has the harder words. */
export function ChatOfflineBanner({ onRetry, strict = false }: { onRetry?: Retry; strict?: boolean }) {
  const texts = useTexts()
  return (
    <Banner kind="offline">
      <span>{strict ? texts.connectionLost : texts.offline}</span>
      <RetryButton onRetry={onRetry}>{texts.retry}</RetryButton>
    </Banner>
  )
}

/** Says how many messages are unsent; nothing at all while there are none. */
export function PendingMessagesBanner({ count, onRetry }: { count: number; onRetry?: Retry }) {
  const texts = useTexts()
  if (count === 0) return null
  return (
    <Banner kind="pending">
      <span>{texts.pending(count)}</span>
      <RetryButton onRetry={onRetry}>{texts.retry}</RetryButton>
    </Banner>
  )
}

export function Banner({ kind, children }: { kind: 'offline' | 'pending' | 'note' | 'error'; children: React.ReactNode }) {
  return (
    <div className="pgr-banner" data-kind={kind} role="status">
      {children}
    </div>
  )
}

/** The booking's status, in colour and words. */
export function StatusBadge({ status, isPending = false }: { status: string; isPending?: boolean }) {
  const texts = useTexts()
  if (!status) return null
  return (
    <span className="pgr-badge" data-status={status} data-pending={isPending || undefined}>
      <span className="pgr-hidden">{texts.currentStatus}: </span>
      {/* Capitals are a matter of looks: a screen reader gets the word. */}
      <span className="pgr-upper">{texts.status[status] ?? status}</span>
      {isPending && <Icon name="clock" />}
    </span>
  )
}
