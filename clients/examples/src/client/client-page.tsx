import type { ChatMessage } from 'pgrelay/chat'
import { useChat, type UseChatResult, useUnreadTitle } from 'pgrelay/react'
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
} from 'pgrelay/ui'
import { useCallback, useRef, useState } from 'react'

import { useIconDot, useSound } from '../page/attention'
import { openBooking, type Session } from '../page/session'
import { useSettings } from '../page/settings'
import { SettingsMenu } from '../page/settings-menu'
import { Question, signIn } from '../page/start'
import { type Words, words as allWords } from '../page/words'

/** What a client sees: one booking, and the team at the other end. */
export function ClientPage({ booking, token, offlinePolicy }: Session) {
  const [settings, change] = useSettings()
  const words = allWords[settings.language]
  const texts = settings.language === 'de' ? de : en
  const play = useSound(settings.sound)
  const [caughtUpAt, setCaughtUpAt] = useState<string | null>(null)
  const gap = useRef(false)
  const chat = useChat({
    bookingId: token ? booking : '',
    offlinePolicy,
    onMessage: play,
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
        <Conversation chat={chat} caughtUpAt={caughtUpAt} bookingId={booking} />
        <Diagnostics chat={chat} words={words} />
        <Announcer messages={messages} isReady={!chat.isLoading} />
      </main>
    </TextProvider>
  )
}

function Header({ chat, words, children }: { chat: UseChatResult; words: Words; children: React.ReactNode }) {
  const status = useCalmStatus(chat)
  const isTeamHere = chat.members.some(({ role }) => role === 'operator')
  const times = Object.fromEntries(
    chat.messages
      .filter(({ message_type, metadata }) => message_type === 'system' && typeof metadata['status'] === 'string')
      .map(({ metadata, created_at }) => [String(metadata['status']), new Date(created_at).toLocaleString()]),
  )
  return (
    <header className="client-head">
      <div className="client-title">
        <span className="avatar" aria-hidden="true">
          {words.team[0]}
        </span>
        <div className="grow">
          <h1>{words.team}</h1>
          <p className="muted">{isTeamHere ? words.online : words.away}</p>
        </div>
        <div className={status === 'connected' ? 'quiet' : ''}>
          <ConnectionStatus status={status} pendingCount={chat.pendingCount} onRetry={chat.retryFailedMessages} />
        </div>
        <StatusBadge status={chat.currentStatus} />
        {children}
      </div>
      <StatusStepper status={chat.currentStatus} times={times} />
    </header>
  )
}

function Conversation({ chat, caughtUpAt, bookingId }: { chat: UseChatResult; caughtUpAt: string | null; bookingId: string }) {
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
