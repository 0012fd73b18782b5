import type { Inbox, InboxRow, InboxSnapshot, InboxTab } from 'pgrelay/chat'
import { StatusBadge } from 'pgrelay/ui'
import { type ReactNode, type RefObject, useEffect, useRef, useState } from 'react'

import type { Words } from '../page/words'

/** Minutes after which a waiting client turns amber, and red. */
const AMBER = 2
const RED = 5

const TABS: readonly InboxTab[] = ['unassigned', 'mine', 'open', 'closed']

interface QueueProps {
  inbox: Inbox | null
  snapshot: InboxSnapshot | null
  selected: string
  onSelect: (id: string) => void
  search: RefObject<HTMLInputElement | null>
  words: Words
  children: ReactNode
}

/** The rows as they may move now: not under the pointer. */
function useStillRows(rows: readonly InboxRow[]) {
  const [isHeld, setHeld] = useState(false)
  const shown = useRef(rows)
  const isReordered = shown.current.map(({ id }) => id).join() !== rows.map(({ id }) => id).join()
  if (!isHeld || !isReordered || shown.current.length === 0) shown.current = rows
  const changed = isHeld && isReordered ? rows.filter((row, at) => shown.current[at]?.id !== row.id).length : 0
  return { shown: shown.current, changed, release: () => setHeld(false), pointer: { onPointerEnter: () => setHeld(true), onPointerLeave: () => setHeld(false) } }
}

export function Queue({ inbox, snapshot, selected, onSelect, search, words, children }: QueueProps) {
  const rows = snapshot?.rows ?? []
  const { shown, changed, release, pointer } = useStillRows(rows)
  const now = useMinute()
  return (
    <section className="queue" aria-label={words.queue}>
      <div className="queue-head">
        <input
          ref={search}
          type="search"
          placeholder={words.search}
          aria-label={words.search}
          value={snapshot?.search ?? ''}
          onChange={({ target }) => inbox?.show({ search: target.value })}
        />
        {children}
      </div>
      <div className="tabs">
        {TABS.map((tab) => (
          <button key={tab} type="button" aria-pressed={snapshot?.tab === tab} onClick={() => inbox?.show({ tab })}>
            {words.tabs[tab]}
            {snapshot?.counts[tab] !== undefined && <span className="muted"> {snapshot.counts[tab]}</span>}
          </button>
        ))}
      </div>
      <label className="queue-sort">
        {words.sort}
        <select value={snapshot?.sort ?? 'waiting'} onChange={({ target }) => inbox?.show({ sort: target.value as 'waiting' | 'recent' })}>
          <option value="waiting">{words.sorts.waiting}</option>
          <option value="recent">{words.sorts.recent}</option>
        </select>
      </label>
      {changed > 0 && (
        <button type="button" className="chip" onClick={release}>
          {words.updates(changed)}
        </button>
      )}
      <ul className="rows" {...pointer}>
        {shown.map((row) => {
          const current = rows.find(({ id }) => id === row.id) ?? row
          return <Row key={row.id} row={current} isSelected={row.id === selected || row.code === selected} onSelect={onSelect} now={now} me={snapshot?.me.id ?? null} words={words} />
        })}
      </ul>
      {snapshot && !snapshot.isLoading && rows.length === 0 && <p className="hint">{snapshot.error?.message ?? (snapshot.search ? words.nothingFound : words.allAnswered)}</p>}
    </section>
  )
}

function Row({ row, isSelected, onSelect, now, me, words }: { row: InboxRow; isSelected: boolean; onSelect: (id: string) => void; now: number; me: string | null; words: Words }) {
  const { id, code, client_name, last_message, waiting_since, unread, status, assigned_to } = row
  const name = client_name || code
  const minutes = waiting_since ? Math.max(0, Math.floor((now - Date.parse(waiting_since)) / 60_000)) : null
  const own = last_message?.sender_role === 'operator' ? `${words.you}: ` : ''
  const initials = name
    .split(/\s+/)
    .map((part) => part[0])
    .slice(0, 2)
    .join('')
  return (
    <li>
      <button type="button" className="row" aria-current={isSelected ? 'true' : undefined} onClick={() => onSelect(id)}>
        <span className="avatar" aria-hidden="true">
          {initials}
        </span>
        <span className="row-main">
          <span className="row-line">
            <strong>{name}</strong>
            {unread > 0 && <span className="pgr-count">{unread}</span>}
          </span>
          <span className="row-line muted row-text">{`${own}${last_message?.content ?? ''}`}</span>
          <span className="row-line">
            <StatusBadge status={status} />
            <span className="muted row-code">{client_name ? code : ''}</span>
            {minutes !== null && (
              <span className="wait" data-level={minutes >= RED ? 'red' : minutes >= AMBER ? 'amber' : undefined}>
                {words.waiting(minutes)}
              </span>
            )}
            {assigned_to && assigned_to === me && <span className="muted">{words.tabs.mine}</span>}
          </span>
        </span>
      </button>
    </li>
  )
}

/** The time, told again often enough for minutes. */
function useMinute(): number {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 15_000)
    return () => clearInterval(timer)
  }, [])
  return now
}
