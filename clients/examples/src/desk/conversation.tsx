import { RelayError } from 'pgrelay'
import type { Assignment, CannedReply, ChatMessage, Inbox } from 'pgrelay/chat'
import type { useChatWithDelivery } from 'pgrelay/react'
import { Composer, type ComposerHandle, MessageList, StatusBadge, useTexts } from 'pgrelay/ui'
import { type RefObject, useCallback, useEffect, useRef, useState } from 'react'

import type { Words } from '../page/words'

export type DeskChat = ReturnType<typeof useChatWithDelivery>
export type ComposerMode = 'reply' | 'note'

/** Why something was refused, for people. */
export function refusalWords(error: unknown, words: Words): string {
  const holder = error instanceof RelayError ? (error.details['assignment'] as Assignment | undefined) : undefined
  if (holder) return words.taken(holder.operator_name ?? words.colleague)
  return error instanceof Error ? error.message : String(error)
}

/** Where a booking can go from here, the usual way first. */
const NEXT: Record<string, readonly string[]> = {
  pending: ['accepted', 'declined', 'cancelled'],
  accepted: ['deployed', 'cancelled'],
  deployed: ['completed', 'cancelled'],
}

interface ConversationProps {
  chat: DeskChat
  inbox: Inbox | null
  bookingId: string
  mode: ComposerMode
  setMode: (mode: ComposerMode) => void
  isStatusOpen: boolean
  setStatusOpen: (isOpen: boolean) => void
  composer: RefObject<ComposerHandle | null>
  /** What was refused last. */
  problem: string
  /** Waits for an action, and shows why it was refused. */
  attempt: (run: Promise<unknown> | undefined) => void
  /** Whether the client is told how far its messages have been read. */
  isReadTold: boolean
  words: Words
}

export function Conversation(props: ConversationProps) {
  const { chat, inbox, bookingId, mode, setMode, composer, words, problem } = props
  const { discardMessage, markRead, sendMessage } = chat
  const canned = useCannedReplies(inbox)
  const edit = useCallback(
    (message: ChatMessage) => {
      discardMessage(message.id)
      composer.current?.fill(message.content)
    },
    [discardMessage, composer],
  )
  if (!bookingId) {
    return (
      <main className="conversation">
        <p className="hint">{words.pick}</p>
      </main>
    )
  }
  const colleagues = chat.members.filter(({ role }) => role === 'operator').map(({ name }) => name ?? '?')
  const typing = chat.typing.filter(({ role }) => role === 'operator').map(({ name }) => name ?? '?')
  const isClosed = Boolean(chat.booking?.closed_at)
  return (
    <main className="conversation">
      <ConversationHead {...props} />
      {(problem || chat.error) && (
        <p className="problem" role="alert">
          {problem || chat.error}
        </p>
      )}
      <MessageList
        key={bookingId}
        messages={chat.messages}
        readSeq={chat.readSeq}
        isLoading={chat.isLoading}
        hasOlder={chat.hasOlder}
        isLoadingOlder={chat.isLoadingOlder}
        typing={chat.typing.filter(({ role }) => role === 'client')}
        emptyText=""
        onLoadOlder={chat.loadOlder}
        onSeen={props.isReadTold ? markRead : undefined}
        onRetry={chat.retryMessage}
        onEdit={edit}
        onDiscard={discardMessage}
        onDelete={chat.deleteMessage}
      />
      {(typing.length > 0 || colleagues.length > 0) && (
        <p className="collision" role="status">
          {typing.length > 0 ? words.typing(typing.join(', ')) : words.viewing(colleagues.join(', '))}
        </p>
      )}
      <div className="compose" data-mode={mode}>
        <div className="tabs">
          {(['reply', 'note'] as const).map((name) => (
            <button key={name} type="button" aria-pressed={mode === name} onClick={() => setMode(name)}>
              {words[name]}
            </button>
          ))}
        </div>
        <Composer
          handle={composer}
          onSend={(text) => sendMessage(text, mode === 'note' ? 'note' : 'text')}
          onTyping={mode === 'reply' ? chat.setTyping : () => {}}
          draftKey={`${bookingId}:${mode}`}
          isSending={chat.isSending}
          disabled={isClosed && mode === 'reply'}
          placeholder={mode === 'note' ? words.noteHint : words.replyHint}
        >
          {(text, fill) => text.startsWith('/') && <CannedMenu text={text} canned={canned} chat={chat} fill={fill} />}
        </Composer>
      </div>
    </main>
  )
}

function ConversationHead({ chat, inbox, isStatusOpen, setStatusOpen, words, attempt }: ConversationProps) {
  const { booking, currentStatus, network, connectionStatus } = chat
  const texts = useTexts()
  const [wanted, setWanted] = useState<string | null>(null)
  const [pendingStatus, setPendingStatus] = useState<string | null>(null)
  const [first, ...others] = NEXT[currentStatus] ?? []
  const isAway = network === 'offline' || connectionStatus !== 'connected'
  const holder = useAssignee(chat, inbox)

  const apply = async (status: string, content: string) => {
    setWanted(null)
    setPendingStatus(status)
    try {
      await chat.updateStatus(status, content ? { content } : {})
    } catch (error) {
      void chat.loadMessages().catch(() => {})
      if (!(error instanceof RelayError) || error.code !== 'status_conflict') throw error
      // Somebody was faster; the history knows who.
      const last = (await inbox?.details(booking!.id))?.history.at(-1)
      throw new Error(words.already(texts.status[last?.to ?? ''] ?? '', last?.actor_name ?? '', last ? new Date(last.at).toLocaleTimeString(texts.locale, { hour: '2-digit', minute: '2-digit' }) : ''))
    } finally {
      setPendingStatus(null)
    }
  }
  return (
    <header className="conversation-head">
      <button type="button" className="pgr-link code" title={words.copy} onClick={() => void navigator.clipboard?.writeText(booking?.code ?? '')}>
        {booking?.code ?? '…'}
      </button>
      <StatusBadge status={pendingStatus ?? currentStatus} isPending={pendingStatus !== null} />
      <span className="grow" />
      {first && (
        <button type="button" className="button primary" disabled={isAway} title={isAway ? words.offlineStatus : undefined} onClick={() => setWanted(first)}>
          {words.actions[first] ?? first}
        </button>
      )}
      <details className="menu" open={isStatusOpen} onToggle={({ currentTarget }) => setStatusOpen(currentTarget.open)}>
        <summary aria-label={words.more} title={words.more}>
          <span aria-hidden="true">⋯</span>
        </summary>
        <div className="menu-box">
          {others.map((status) => (
            <button key={status} type="button" disabled={isAway} onClick={() => setWanted(status)}>
              {words.actions[status] ?? status}
            </button>
          ))}
          {holder.isMine ? (
            <button type="button" onClick={() => attempt(inbox?.release(booking!.id))}>
              {words.release}
            </button>
          ) : (
            <button type="button" disabled={!booking} onClick={() => attempt(inbox?.claim(booking!.id))}>
              {words.assign}
            </button>
          )}
          <button type="button" disabled={isAway} onClick={() => attempt(chat.setClosed(!booking?.closed_at))}>
            {booking?.closed_at ? words.reopen : words.close}
          </button>
        </div>
      </details>
      {wanted && <ConfirmStatus status={wanted} words={words} onCancel={() => setWanted(null)} onConfirm={(status, content) => attempt(apply(status, content))} />}
    </header>
  )
}

/** Who takes care of the booking, as the queue knows it. */
function useAssignee({ booking, me }: DeskChat, inbox: Inbox | null) {
  const row = inbox?.getSnapshot().rows.find(({ id }) => id === booking?.id)
  return { isMine: Boolean(row?.assigned_to) && row?.assigned_to === me.id }
}

/** What the chat will say about the new status; other words may be chosen. */
function ConfirmStatus({
  status,
  words,
  onCancel,
  onConfirm,
}: {
  status: string
  words: Words
  onCancel: () => void
  onConfirm: (status: string, content: string) => void
}) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [content, setContent] = useState(STATUS_TEXTS[status] ?? `🔄 Status updated to: ${status}`)
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog ref={dialog} className="dialog" onClose={onCancel} aria-labelledby="confirm-title">
      <h2 id="confirm-title">{words.actions[status] ?? status}</h2>
      <label>
        {words.preview}
        <textarea rows={3} value={content} onChange={({ target }) => setContent(target.value)} />
      </label>
      <div className="dialog-foot">
        <button type="button" className="button" onClick={() => dialog.current?.close()}>
          {words.cancel}
        </button>
        <button type="button" className="button primary" onClick={() => onConfirm(status, content === STATUS_TEXTS[status] ? '' : content)}>
          {words.confirm}
        </button>
      </div>
    </dialog>
  )
}

/** What the server writes by itself, in English. */
const STATUS_TEXTS: Record<string, string> = {
  accepted: '✅ Your booking has been accepted by our team...',
  deployed: '🚀 Our team has been deployed and is on the way.',
  completed: '🏁 Your booking is complete. Thank you for choosing us.',
  declined: '❌ We are sorry, we cannot take on your booking.',
  cancelled: '🚫 Your booking has been cancelled.',
}

function useCannedReplies(inbox: Inbox | null): readonly CannedReply[] {
  const [canned, setCanned] = useState<readonly CannedReply[]>([])
  useEffect(() => {
    let isCurrent = true
    inbox?.cannedReplies().then(
      (replies) => isCurrent && setCanned(replies),
      () => {},
    )
    return () => {
      isCurrent = false
    }
  }, [inbox])
  return canned
}

/** Whether the letters occur in the text, in this order. */
function isFuzzyMatch(letters: string, text: string): boolean {
  let at = 0
  for (const letter of text.toLowerCase()) if (letter === letters[at]) at++
  return at === letters.length
}

function CannedMenu({ text, canned, chat, fill }: { text: string; canned: readonly CannedReply[]; chat: DeskChat; fill: (text: string) => void }) {
  const letters = text.slice(1).toLowerCase()
  const found = canned.filter(({ shortcut, body }) => isFuzzyMatch(letters, shortcut) || body.toLowerCase().includes(letters))
  const values: Record<string, string> = { client_name: chat.booking?.client_name ?? '', booking_code: chat.booking?.code ?? '' }
  const complete = (body: string) => body.replace(/\{\{(\w+)\}\}/g, (whole, name: string) => values[name] ?? whole)
  return (
    <ul className="canned">
      {found.map(({ shortcut, body }) => (
        <li key={shortcut}>
          <button type="button" onClick={() => fill(complete(body))}>
            <strong>/{shortcut}</strong> <span className="muted">{complete(body)}</span>
          </button>
        </li>
      ))}
    </ul>
  )
}
