import type { BookingDetails, Inbox } from 'pgrelay/chat'
import { useTexts } from 'pgrelay/ui'
import { useEffect, useState } from 'react'

import type { Words } from '../page/words'
import type { DeskChat } from './conversation'

/** What is known of the booking beside its messages. */
export function DetailsPane({ chat, inbox, words, language }: { chat: DeskChat; inbox: Inbox | null; words: Words; language: string }) {
  const { booking, receipts, messages, me } = chat
  const texts = useTexts()
  const { details, isMissing } = useDetails(inbox, booking?.id, booking?.status_version)
  if (!booking) return <aside className="details" aria-label={words.details} />
  const time = (text: string) => new Date(text).toLocaleString(language, { dateStyle: 'medium', timeStyle: 'short' })
  const timeOf = (seq: number) => {
    const message = messages.find((one) => one.seq === seq)
    return message ? new Date(message.created_at).toLocaleTimeString(language, { hour: '2-digit', minute: '2-digit' }) : `#${seq}`
  }
  const client = chat.members.find(({ role }) => role === 'client')
  const isHere = client !== undefined && !client.isAway
  const seenAt = lastSeen(chat)
  const name = booking.client_name ?? words.client
  return (
    <aside className="details" aria-label={words.details}>
      <h2>{name}</h2>
      <p className="presence" data-here={isHere || undefined}>
        <span className="pgr-dot" aria-hidden="true" />
        {isHere ? words.isHere : seenAt ? `${words.isAway}, ${words.lastSeen(time(seenAt))}` : words.isAway}
      </p>
      <dl>
        <dt>{words.code}</dt>
        <dd>{booking.code}</dd>
        <dt>{words.created}</dt>
        <dd>{time(booking.created_at)}</dd>
        <dt>{words.assignee}</dt>
        <dd>{details?.assignment ? (details.assignment.operator_name ?? details.assignment.operator_id.slice(0, 8)) : words.nobody}</dd>
      </dl>
      <h3>{words.receipts}</h3>
      <ul className="plain">
        {receipts
          .filter(({ participant_id }) => participant_id !== me.id)
          .map(({ participant_id, role, delivered_seq, read_seq }) => {
            const who = role === 'client' ? name : `${texts.team} ${participant_id.slice(0, 4)}`
            return (
              <li key={participant_id}>
                {words.receivedUpTo(who, timeOf(delivered_seq))}
                {read_seq > 0 && (
                  <>
                    <br />
                    {words.readUpTo(who, timeOf(read_seq))}
                  </>
                )}
              </li>
            )
          })}
      </ul>
      <h3>{words.history}</h3>
      {isMissing && <p className="muted">{words.system}</p>}
      <ol className="plain history">
        {details?.history.map(({ version, to, actor_name, actor_role, at }) => (
          <li key={version}>
            <strong>{texts.status[to] ?? to}</strong>
            <br />
            <span className="muted">
              {time(at)} · {actor_name ?? actor_role}
            </span>
          </li>
        ))}
      </ol>
    </aside>
  )
}

/** The last sign of life of the client: something it wrote, or something that reached it. */
function lastSeen({ messages, receipts }: DeskChat): string | undefined {
  const signs = [
    ...messages.filter(({ sender_role }) => sender_role === 'client').map(({ created_at }) => created_at),
    ...receipts.filter(({ role }) => role === 'client').map(({ updated_at }) => updated_at),
  ]
  return signs.sort((a, b) => Date.parse(a) - Date.parse(b)).at(-1)
}

function useDetails(inbox: Inbox | null, bookingId: string | undefined, version: number | undefined) {
  const [state, setState] = useState<{ details: BookingDetails | null; isMissing: boolean }>({ details: null, isMissing: false })
  useEffect(() => {
    if (!inbox || !bookingId) return
    let isCurrent = true
    const load = () =>
      inbox.details(bookingId).then(
        (details) => isCurrent && setState({ details, isMissing: false }),
        () => isCurrent && setState({ details: null, isMissing: true }),
      )
    void load()
    // Assignments are told to the queue, which is then loaded again.
    const undo = inbox.subscribe(() => void load())
    return () => {
      isCurrent = false
      undo()
    }
  }, [inbox, bookingId, version])
  return state.details && state.details.booking.id !== bookingId ? { details: null, isMissing: false } : state
}
