import type { InboxTab } from 'pgrelay/chat'
import { useChatWithDelivery, useInbox, useRelayStatus, useUnreadTitle } from 'pgrelay/react'
import { Announcer, type ComposerHandle, ConnectionNotice, de, en, TextProvider } from 'pgrelay/ui'
import { useCallback, useEffect, useMemo, useRef, useState } from 'react'

import { useIconDot, useSound } from '../page/attention'
import type { Session } from '../page/session'
import { useSettings } from '../page/settings'
import { SettingsMenu } from '../page/settings-menu'
import { Question, signIn } from '../page/start'
import { words as allWords } from '../page/words'
import { Conversation, type ComposerMode } from './conversation'
import { DetailsPane } from './details-pane'
import { HealthStrip } from './health-strip'
import { KeyHelp } from './key-help'
import { Queue } from './queue'
import { useKeys } from './use-keys'

type Pane = 'queue' | 'chat' | 'details'

/** The operators' desk: who waits, the conversation, and what is known of the booking. */
export function DeskPage({ booking, token, offlinePolicy }: Session) {
  const [settings, change] = useSettings()
  const words = allWords[settings.language]
  const [selected, setSelected] = useState(booking)
  const [pane, setPane] = useState<Pane>(booking ? 'chat' : 'queue')
  const [mode, setMode] = useState<ComposerMode>('reply')
  const [isHelpOpen, setHelpOpen] = useState(false)
  const [isStatusOpen, setStatusOpen] = useState(false)
  const composer = useRef<ComposerHandle>(null)
  const search = useRef<HTMLInputElement>(null)
  const play = useSound(settings.sound)

  const hear = useCallback((message: Record<string, unknown>) => message['sender_role'] === 'client' && play(), [play])
  const { inbox, snapshot } = useInbox({ onMessage: hear })
  const chat = useChatWithDelivery({ bookingId: token ? selected : '', autoLoad: true, enableRealtime: true, offlinePolicy })
  const status = useRelayStatus()
  const rows = snapshot?.rows ?? []
  const unread = rows.reduce((sum, row) => sum + row.unread, 0)
  useUnreadTitle(unread)
  useIconDot(unread > 0)

  const select = useCallback((id: string) => {
    setSelected(id)
    setPane('chat')
    setMode('reply')
    setStatusOpen(false)
  }, [])
  // On a desktop one opens a conversation to write in it.
  useEffect(() => {
    if (selected && matchMedia('(min-width: 760px) and (pointer: fine)').matches) composer.current?.focus()
  }, [selected])

  const move = (by: number) => {
    const at = rows.findIndex((row) => row.id === selected || row.code === selected)
    const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))]
    if (next) select(next.id)
  }
  const write = (next: ComposerMode) => {
    setMode(next)
    setPane('chat')
    composer.current?.focus()
  }
  const claim = () => void (selected && inbox?.claim(selected).catch(() => {}))
  const show = (tab: InboxTab) => inbox?.show({ tab })
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    r: () => write('reply'),
    n: () => write('note'),
    a: claim,
    e: () => void chat.setClosed(true).catch(() => {}),
    E: () => void chat.setClosed(false).catch(() => {}),
    s: () => setStatusOpen(true),
    '/': () => search.current?.focus(),
    m: () => change({ sound: !settings.sound }),
    '?': () => setHelpOpen(true),
    'g u': () => show('unassigned'),
    'g m': () => show('mine'),
    'g a': () => show('open'),
  })
  // The facts of the connection are told even while no conversation is open.
  const facts = useMemo(
    () => ({
      connectionStatus: status?.phase ?? 'connecting',
      network: status?.network ?? 'online',
      transport: status?.transport ?? null,
      nextRetryAt: status?.nextRetryAt ?? null,
      isDurable: chat.isDurable,
      pendingCount: chat.pendingCount,
      error: status?.error ?? snapshot?.error ?? null,
    }),
    [status, chat.isDurable, chat.pendingCount, snapshot?.error],
  )

  if (!token) return <Question title={words.signIn} text={words.signInHow} label={words.token} button={words.open} onAnswer={signIn} />
  return (
    <TextProvider texts={settings.language === 'de' ? de : en}>
      <div className="desk" data-pane={pane}>
        <ConnectionNotice facts={facts} onRetry={chat.retryFailedMessages} />
        <div className="panes">
          <Queue inbox={inbox} snapshot={snapshot} selected={selected} onSelect={select} search={search} words={words}>
            <SettingsMenu settings={settings} change={change} words={words} />
          </Queue>
          <Conversation
            chat={chat}
            inbox={inbox}
            bookingId={selected}
            mode={mode}
            setMode={setMode}
            isStatusOpen={isStatusOpen}
            setStatusOpen={setStatusOpen}
            composer={composer}
            words={words}
          />
          <DetailsPane chat={chat} inbox={inbox} words={words} language={settings.language} />
        </div>
        <nav className="pane-tabs" aria-label="Panes">
          {(['queue', 'chat', 'details'] as const).map((name) => (
            <button key={name} type="button" aria-current={pane === name ? 'page' : undefined} onClick={() => setPane(name)}>
              {words[name]}
            </button>
          ))}
        </nav>
        <HealthStrip status={status} words={words} onKeys={() => setHelpOpen(true)} />
        <Announcer messages={chat.messages} isReady={!chat.isLoading} />
        {isHelpOpen && <KeyHelp words={words} onClose={() => setHelpOpen(false)} />}
      </div>
    </TextProvider>
  )
}
