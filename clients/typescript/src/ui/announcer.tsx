import { useEffect, useRef, useState } from 'react'

import type { ChatMessage } from '../chat'
import { useTexts } from './text-context'

/** Milliseconds over which new messages are gathered into one announcement. */
const GATHER = 1_000

/**
 * Speaks new messages of others, and failures of own ones. Apart from the list, which is silent: some screen readers
 * would read all of it again.
 */
export function Announcer({ messages, isReady }: { messages: readonly ChatMessage[]; isReady: boolean }) {
  const texts = useTexts()
  const known = useRef<Set<string> | null>(null)
  const fresh = useRef<ChatMessage[]>([])
  const [polite, setPolite] = useState('')
  const [urgent, setUrgent] = useState('')
  const failed = messages.filter(({ delivery_status }) => delivery_status === 'failed').length

  useEffect(() => {
    if (!isReady) return
    const seen = known.current
    known.current = new Set(messages.map(({ id }) => id))
    if (!seen) return
    fresh.current.push(...messages.filter(({ id, isOwn }) => !isOwn && !seen.has(id)))
    if (fresh.current.length === 0) return
    const timer = setTimeout(() => {
      const { length } = fresh.current
      const last = fresh.current[length - 1]!
      fresh.current = []
      const from = last.sender_role === 'system' ? texts.system : last.sender_role === 'operator' ? texts.team : texts.client
      setPolite(texts.announce(length, from, last.content.slice(0, 200)))
    }, GATHER)
    return () => clearTimeout(timer)
  }, [messages, isReady, texts])

  useEffect(() => setUrgent(failed > 0 ? texts.announceFailure : ''), [failed, texts])

  return (
    <div className="pgr-hidden">
      <div aria-live="polite">{polite}</div>
      <div aria-live="assertive">{urgent}</div>
    </div>
  )
}
