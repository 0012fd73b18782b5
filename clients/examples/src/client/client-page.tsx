import { type ChatMessage, loadBooking, type StatusChange } from 'pgrelay/chat'
import { useChat, type UseChatResult, useRelay, useUnreadTitle } from 'pgrelay/react'
import {
  Announcer,
  Composer,
  type ComposerHandle,
  ConnectionNotice,
  ConnectionStatus,
  de,
  en,
  MessageList,
  StatusBadge,
  StatusStepper,
  TextProvider,
  useCalmStatus,
  useTexts,
} from 'pgrelay/ui'
import { useCallback, useEffect, useRef, useState } from 'react'

import { useAttention, useIconDot } from '../page/attention'
import { openBooking, type Session } from '../page/session'
import { useSettings } from '../page/settings'
import { SettingsMenu } from '../page/settings-menu'
import { Question, signIn } from '../page/start'
import { Toast, useToast } from '../page/toast'
import { type Words, words as allWords } from '../page/words'
import { usualReplyMinutes } from './reply-time'

/** What a client sees: one booking, and the team at the other end. */
export function ClientPage({ booking, token, offlinePolicy }: Session) {
  const [settings, change] = useSettings()
  const words = allWords[settings.language]
  const texts = settings.language === 'de' ? de : en
  const call = useAttention(settings)
  const [toast, showToast] = useToast()
  const [caughtUpAt, setCaughtUpAt] = useState<string | null>(null)
  const gap = useRef(false)
  const isAtEnd = useRef(true)
  const move = useCallback((isNow: boolean) => void (isAtEnd.current = isNow), [])
  const chat = useChat({
    bookingId: token ? booking : '',
    offlinePolicy,
    onMessage: ({ content }) => call(words.team, content),
    onStatusUpdate: (status) => {
      // Who sees the conversation sees it there.
      if (document.visibilityState !== 'visible' || !isAtEnd.current) showToast(words.statusToast(texts.status[status] ?? status))
    },
    onGap: () => (gap.current = true),
  })
  const { messages, error, unreadCount } = chat
  if (gap.current && chat.connectionStatus === 'connected' && messages.length > 0) {
    gap.current = false
    setCaughtUpAt(messages[messages.length - 1]!.id)
  }
  useUnreadTitle(unreadCount)
  useIconDot(unreadCount > 0)

  if (!token) return <Question title={words.signIn} text={words.signInHow} label={words.token} button={words.open} onAnswer={signIn} />
  const isUnknown = error?.code === 'booking_not_found' || error?.code === 'not_a_participant'
  if (!booking || (isUnknown && messages.length === 0)) {
    const text = booking ? words.notFound(booking) : words.noBooking
    return <Question title={booking ? words.notFoundTitle : words.code} text={text} label={words.code} button={words.open} onAnswer={openBooking} />
  }
  return (
    <TextProvider texts={texts}>
      <main className="client">
        <Header chat={chat} words={words}>
          <SettingsMenu settings={settings} change={change} words={words} />
        </Header>
        <Conversation chat={chat} caughtUpAt={caughtUpAt} bookingId={booking} onMove={move} />
        <Toast text={toast} />
        <Diagnostics chat={chat} words={words} />
        <Announcer messages={messages} isReady={!chat.isLoading} />
      </main>
    </TextProvider>
  )
}

function Header({ chat, words, children }: { chat: UseChatResult; words: Words; children: React.ReactNode }) {
  const status = useCalmStatus(chat)
  const { locale } = useTexts()
  const history = useStatusHistory(chat)
  const notes = Object.fromEntries(
    history.map(({ to, at, actor_name }) => {
      const time = new Date(at).toLocaleString(locale, { dateStyle: 'medium', timeStyle: 'short' })
      return [to, actor_name ? `${actor_name}, ${time}` : time]
    }),
  )
  return (
    <header className="client-head">
      <div className="client-title">
        <span className="avatar" aria-hidden="true">
          {words.team[0]}
        </span>
        <div className="grow">
          <h1>{words.team}</h1>
          <p className="muted">{presenceWords(chat, words)}</p>
        </div>
        <div className={status === 'connected' ? 'quiet' : ''}>
          <ConnectionStatus status={status} pendingCount={chat.pendingCount} onRetry={chat.retryFailedMessages} />
        </div>
        <StatusBadge status={chat.currentStatus} />
        {children}
      </div>
      <StatusStepper status={chat.currentStatus} notes={notes} />
    </header>
  )
}

function presenceWords({ members, messages }: UseChatResult, words: Words): string {
  if (members.some(({ role, isAway }) => role === 'operator' && !isAway)) return words.online
  const minutes = usualReplyMinutes(messages)
  return minutes === undefined ? words.away : words.usually(minutes)
}

/** Every status the booking has had. */
function useStatusHistory({ booking }: UseChatResult): readonly StatusChange[] {
  const relay = useRelay()
  const [history, setHistory] = useState<readonly StatusChange[]>([])
  const id = booking?.id
  useEffect(() => {
    if (!relay || !id) return
    let isCurrent = true
    loadBooking(relay, id).then(
      (details) => isCurrent && setHistory(details.history),
      // The steps then only tell how far it has come.
      () => {},
    )
    return () => {
      isCurrent = false
    }
  }, [relay, id, booking?.status_version])
  return history
}

interface ConversationProps {
  chat: UseChatResult
  caughtUpAt: string | null
  bookingId: string
  /** Whether the newest message is in sight. */
  onMove: (isAtEnd: boolean) => void
}

function Conversation({ chat, caughtUpAt, bookingId, onMove }: ConversationProps) {
  const composer = useRef<ComposerHandle>(null)
  const { markRead, discardMessage, sendMessage } = chat
  const edit = useCallback(
    (message: ChatMessage) => {
      discardMessage(message.id)
      composer.current?.fill(message.content)
    },
    [discardMessage],
  )
  const isClosed = Boolean(chat.booking?.closed_at)
  return (
    <>
      <ConnectionNotice facts={chat} onRetry={chat.retryFailedMessages} />
      <MessageList
        messages={chat.messages}
        readSeq={chat.readSeq}
        isLoading={chat.isLoading}
        hasOlder={chat.hasOlder}
        isLoadingOlder={chat.isLoadingOlder}
        typing={chat.typing}
        caughtUpAt={caughtUpAt}
        onLoadOlder={chat.loadOlder}
        onSeen={markRead}
        onMove={onMove}
        onRetry={chat.retryMessage}
        onEdit={edit}
        onDiscard={discardMessage}
        onDelete={chat.deleteMessage}
      />
      <Composer handle={composer} onSend={(text) => sendMessage(text)} onTyping={chat.setTyping} draftKey={bookingId} isSending={chat.isSending} disabled={isClosed} />
    </>
  )
}

/** What support asks for, to copy. */
function Diagnostics({ chat, words }: { chat: UseChatResult; words: Words }) {
  const { connectionStatus, network, transport, pendingCount, failedCount, isDurable, error, booking } = chat
  const text = [
    `booking ${booking?.code ?? '-'}`,
    `connection ${connectionStatus}, device ${network}, transport ${transport ?? 'none'}`,
    `unsent ${pendingCount}, failed ${failedCount}, kept on disk ${isDurable ? 'yes' : 'no'}`,
    `last error ${error ? `${error.code}: ${error.message}` : 'none'}`,
    `messages ${chat.messages.length}, last ${chat.messages.at(-1)?.seq ?? '-'}`,
    navigator.userAgent,
  ].join('\n')
  return (
    <details className="diagnostics">
      <summary>{words.diagnostics}</summary>
      <pre>{text}</pre>
      <button type="button" className="button" onClick={() => void navigator.clipboard?.writeText(text)}>
        {words.copy}
      </button>
    </details>
  )
}
