import type { RelayStatus } from 'pgrelay'
import { realtimeMessageService } from 'pgrelay/chat'
import { ConnectionStatus } from 'pgrelay/ui'
import { useEffect, useState } from 'react'

import type { Words } from '../page/words'

/** Messages older than this no longer count, in milliseconds. */
const WINDOW = 3_600_000

/** How many of the messages sent in the last hour have been delivered. */
function useDeliveryRate(): { sent: number; delivered: number } {
  const [times, setTimes] = useState<{ sent: Map<string, number>; delivered: Map<string, number> }>({ sent: new Map(), delivered: new Map() })
  useEffect(
    () =>
      realtimeMessageService.addEventListener('delivery_status', ({ status, messageId }) => {
        const isDelivered = status === 'delivered' || status === 'read'
        if (!isDelivered && status !== 'sent') return
        const now = Date.now()
        setTimes(({ sent, delivered }) => {
          const recent = (map: Map<string, number>) => new Map([...map].filter(([, at]) => now - at < WINDOW))
          return {
            // What is delivered was sent, whichever is heard of first.
            sent: recent(sent).set(messageId, sent.get(messageId) ?? now),
            delivered: isDelivered ? recent(delivered).set(messageId, now) : recent(delivered),
          }
        })
      }),
    [],
  )
  return { sent: times.sent.size, delivered: times.delivered.size }
}

function usePendingCount(): number {
  const [count, setCount] = useState(0)
  useEffect(() => {
    const look = () => setCount(realtimeMessageService.getPendingMessagesCount())
    const timer = setInterval(look, 1_000)
    return () => clearInterval(timer)
  }, [])
  return count
}

/** Whether all is well, in one line at the bottom. */
export function HealthStrip({ status, words, onKeys }: { status: RelayStatus | null; words: Words; onKeys: () => void }) {
  const { sent, delivered } = useDeliveryRate()
  const pending = usePendingCount()
  return (
    <footer className="health">
      <ConnectionStatus status={status?.phase ?? 'connecting'} />
      <span>{words.pendingCount(pending)}</span>
      <span data-health="rate">{sent > 0 ? words.deliveryRate(((delivered / sent) * 100).toFixed(1)) : words.noDeliveries}</span>
      {status?.latency != null && <span>{words.latency(status.latency)}</span>}
      <button type="button" className="pgr-link grow-left" onClick={onKeys}>
        {words.keys}
      </button>
    </footer>
  )
}
