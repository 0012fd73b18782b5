import { Fragment, type KeyboardEvent, memo, type ReactNode, type RefObject, useEffect, useLayoutEffect, useRef, useState } from 'react'

import type { ChatMessage, Member } from '../chat'
import { Icon } from './icon'
import { MessageDeliveryIndicator, useLate } from './status-components'
import { useTexts } from './text-context'
import type { Texts } from './texts'

export interface MessageListProps {
  messages: readonly ChatMessage[]
  /** The last message that was read before the list was opened, as `seq`. */
  readSeq?: number
  isLoading?: boolean
  hasOlder?: boolean
  isLoadingOlder?: boolean
  typing?: readonly Member[]
  /** The first message after what could not be recovered. */
  caughtUpAt?: string | null
  onLoadOlder?: (() => void) | undefined
  /** The newest message is in sight, in a page that is in front. */
  onSeen?: (() => void) | undefined
  /** The end of the conversation came into sight, or went out of it. */
  onMove?: ((isAtEnd: boolean) => void) | undefined
  onRetry?: ((id: string) => void) | undefined
  onEdit?: ((message: ChatMessage) => void) | undefined
  onDiscard?: ((id: string) => void) | undefined
  onDelete?: ((id: string) => void) | undefined
  emptyText?: string
}

/** Pixels from the end within which the list follows new messages. */
const FOLLOW = 80
/** Milliseconds within which messages of one sender form a group. */
const GROUP = 180_000

// A server draws nothing that could be scrolled, and React 18 says so aloud.
const useDrawn = typeof document === 'undefined' ? useEffect : useLayoutEffect

const dayOf = (message: ChatMessage) => new Date(message.created_at).toDateString()

function dayWords(date: Date, texts: Texts): string {
  const today = new Date()
  const days = Math.round((today.setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 86_400_000)
  if (days === 0) return texts.today
  if (days === 1) return texts.yesterday
  return date.toLocaleDateString(texts.locale, { weekday: 'long', day: 'numeric', month: 'long' })
}

const isGroup = (a: ChatMessage | undefined, b: ChatMessage | undefined) =>
  a !== undefined &&
  b !== undefined &&
  a.sender_role === b.sender_role &&
  a.sender_id === b.sender_id &&
  a.message_type === b.message_type &&
  dayOf(a) === dayOf(b) &&
  Math.abs(Date.parse(b.created_at) - Date.parse(a.created_at)) < GROUP

/** A conversation. Follows new messages while its end is in sight, and keeps its place while older ones are loaded. */
export function MessageList(props: MessageListProps) {
  const texts = useTexts()
  const { messages, isLoading = false, hasOlder = false, typing = [] } = props
  const box = useRef<HTMLDivElement>(null)
  const { isAtEnd, toEnd, unseen } = useFollowing(box, messages, props.onSeen)
  const { onMove } = props
  useEffect(() => onMove?.(isAtEnd), [isAtEnd, onMove])
  const unreadFrom = useUnreadMark(messages, props.readSeq ?? 0)
  const isSlow = useLate(isLoading && messages.length === 0, 150)

  const move = (event: KeyboardEvent) => {
    const rows = [...box.current!.querySelectorAll<HTMLElement>('[data-row]')]
    const at = rows.findIndex((row) => row === document.activeElement)
    if (at < 0) return
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1 }[event.key]
    if (to === undefined || !rows[to]) return
    event.preventDefault()
    rows[to].focus()
  }

  return (
    <div className="pgr-list-frame">
      <div ref={box} className="pgr-list" role="log" aria-live="off" aria-label={texts.messages} aria-busy={isLoading} tabIndex={0} onKeyDown={move}>
        {hasOlder && (
          <button type="button" className="pgr-link pgr-older" disabled={props.isLoadingOlder} onClick={props.onLoadOlder}>
            {props.isLoadingOlder ? texts.loading : texts.older}
          </button>
        )}
        {isSlow && <Skeleton />}
        {messages.map((message, at) => {
          const before = messages[at - 1]
          const isNewDay = !before || dayOf(before) !== dayOf(message)
          return (
            <Fragment key={message.id}>
              {isNewDay && <Separator kind="day">{dayWords(new Date(message.created_at), texts)}</Separator>}
              {message.id === props.caughtUpAt && <Separator kind="gap">{texts.gap}</Separator>}
              {message.id === unreadFrom.id && <Separator kind="unread">{texts.unread(unreadFrom.count)}</Separator>}
              <Bubble
                message={message}
                isFirst={!isGroup(before, message)}
                isLast={!isGroup(message, messages[at + 1])}
                isNewest={at === messages.length - 1}
                onRetry={props.onRetry}
                onEdit={props.onEdit}
                onDiscard={props.onDiscard}
                onDelete={props.onDelete}
              />
            </Fragment>
          )
        })}
        {!isLoading && messages.every(({ message_type }) => message_type === 'system') && <p className="pgr-empty">{props.emptyText ?? texts.empty}</p>}
        {typing.length > 0 && <p className="pgr-typing">{texts.typing(typing.map(({ name, role }) => name ?? (role === 'operator' ? texts.team : texts.client)).join(', '))}</p>}
      </div>
      {!isAtEnd && (
        <button type="button" className="pgr-jump" onClick={toEnd} aria-label={unseen > 0 ? `${texts.toNewest}, ${texts.unread(unseen)}` : texts.toNewest}>
          <Icon name="down" />
          {unseen > 0 && <span className="pgr-count">{unseen}</span>}
        </button>
      )}
    </div>
  )
}

function Separator({ kind, children }: { kind: string; children: ReactNode }) {
  return (
    <div className="pgr-separator" data-kind={kind}>
      <span>{children}</span>
    </div>
  )
}

function Skeleton() {
  return (
    <div className="pgr-skeletons" aria-hidden="true">
      {[60, 40, 70, 30, 55].map((width, at) => (
        <div key={width} className="pgr-skeleton" data-own={at % 2 === 1 || undefined} style={{ width: `${width}%` }} />
      ))}
    </div>
  )
}

interface BubbleProps extends Pick<MessageListProps, 'onRetry' | 'onEdit' | 'onDiscard' | 'onDelete'> {
  message: ChatMessage
  isFirst: boolean
  isLast: boolean
  isNewest: boolean
}

const Bubble = memo(function Bubble({ message, isFirst, isLast, isNewest, onRetry, onEdit, onDiscard, onDelete }: BubbleProps) {
  const texts = useTexts()
  const { id, isOwn, delivery_status, failure, waiting, retry_count, content, sender_role, message_type } = message
  const at = new Date(message.created_at)
  const time = at.toLocaleTimeString(texts.locale, { hour: '2-digit', minute: '2-digit' })
  const isSystem = message_type === 'system'
  const author = isSystem ? texts.system : isOwn ? texts.you : sender_role === 'operator' ? texts.team : texts.client
  const isMarked = delivery_status !== undefined && (isLast || (delivery_status !== 'delivered' && delivery_status !== 'read'))
  const name = [author, message_type === 'note' && texts.note, time, delivery_status && texts.delivery[delivery_status]].filter(Boolean).join(', ')
  return (
    <div
      className="pgr-row"
      role="article"
      data-row=""
      data-kind={isSystem ? 'system' : message_type}
      data-own={isOwn || undefined}
      data-first={isFirst || undefined}
      data-status={delivery_status}
      aria-label={name}
      tabIndex={isNewest ? 0 : -1}
    >
      {isFirst && !isSystem && !isOwn && <span className="pgr-author">{message_type === 'note' ? `${author} · ${texts.note}` : author}</span>}
      <div className="pgr-bubble" dir="auto">
        {message.deleted_at ? <i className="pgr-muted">{texts.deleted}</i> : content}
        {isSystem && (
          <time className="pgr-muted" dateTime={message.created_at}>
            {' '}
            {time}
          </time>
        )}
      </div>
      {!isSystem && (isLast || isMarked) && (
        <div className="pgr-foot">
          {onDelete && isOwn && message.message_id && !message.deleted_at && isLast && (
            <span className="pgr-on-hover">
              <Action onClick={() => onDelete(id)}>{texts.remove}</Action>
            </span>
          )}
          <time dateTime={message.created_at} title={at.toLocaleString(texts.locale)}>
            {time}
          </time>
          {isMarked && (
            <MessageDeliveryIndicator status={delivery_status} retryCount={retry_count} waiting={waiting} failure={failure} onRetry={onRetry && (() => onRetry(id))} />
          )}
          {delivery_status === 'failed' && onEdit && <Action onClick={() => onEdit(message)}>{texts.edit}</Action>}
          {delivery_status === 'failed' && onDiscard && <Action onClick={() => onDiscard(id)}>{texts.remove}</Action>}
        </div>
      )}
    </div>
  )
})

function Action({ onClick, children }: { onClick: () => void; children: string }) {
  return (
    <button type="button" className="pgr-link" onClick={onClick}>
      {children}
    </button>
  )
}

/** Keeps the end in sight while it is, and the place while the list grows at its beginning. */
function useFollowing(box: RefObject<HTMLDivElement | null>, messages: readonly ChatMessage[], onSeen: (() => void) | undefined) {
  const [isAtEnd, setAtEnd] = useState(true)
  const before = useRef({ first: '', height: 0, isAtEnd: true })
  const seenCount = useRef(0)

  useDrawn(() => {
    const element = box.current!
    const { first, height } = before.current
    const isOlderLoaded = first !== '' && messages[0] !== undefined && messages[0].id !== first
    if (before.current.isAtEnd || messages.at(-1)?.seq === null) element.scrollTop = element.scrollHeight
    else if (isOlderLoaded) element.scrollTop += element.scrollHeight - height
    before.current = { ...before.current, first: messages[0]?.id ?? '', height: element.scrollHeight }
  }, [box, messages])

  useEffect(() => {
    const element = box.current!
    const look = () => {
      const isNear = element.scrollHeight - element.scrollTop - element.clientHeight < FOLLOW
      before.current.isAtEnd = isNear
      setAtEnd(isNear)
    }
    // The box shrinks when a keyboard or a banner comes up.
    const resized = typeof ResizeObserver === 'undefined' ? undefined : new ResizeObserver(() => {
      if (before.current.isAtEnd) element.scrollTop = element.scrollHeight
    })
    resized?.observe(element)
    element.addEventListener('scroll', look, { passive: true })
    return () => {
      resized?.disconnect()
      element.removeEventListener('scroll', look)
    }
  }, [box])

  useEffect(() => {
    if (!isAtEnd || !onSeen) return
    const see = () => document.visibilityState === 'visible' && document.hasFocus() && onSeen()
    see()
    window.addEventListener('focus', see)
    return () => window.removeEventListener('focus', see)
  }, [isAtEnd, onSeen, messages])

  if (isAtEnd) seenCount.current = messages.length
  const toEnd = () => box.current!.scrollTo({ top: box.current!.scrollHeight })
  return { isAtEnd, toEnd, unseen: Math.max(0, messages.length - seenCount.current) }
}

/** Where the unread messages begin, as it was when the list was opened: it does not move while one reads. */
function useUnreadMark(messages: readonly ChatMessage[], readSeq: number): { id: string | undefined; count: number } {
  const mark = useRef<{ id: string | undefined; count: number } | null>(null)
  if (mark.current === null && messages.length > 0) {
    const unread = messages.filter(({ seq, isOwn, message_type }) => seq !== null && seq > readSeq && !isOwn && message_type !== 'system')
    mark.current = { id: readSeq > 0 ? unread[0]?.id : undefined, count: unread.length }
  }
  return mark.current ?? { id: undefined, count: 0 }
}
