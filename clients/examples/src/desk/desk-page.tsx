import type { InboxTab } from 'pgrelay/chat'
import { useChatWithDelivery, useInbox, useRelayStatus, useUnreadTitle } from 'pgrelay/react'
import { Announcer, type ComposerHandle, ConnectionNotice, de, en, TextProvider } from 'pgrelay/ui'
import { useCallback, useEffect, useMemo, useRef, useState } from 'react'

import { useAttention, useIconDot } from '../page/attention'
import type { Session } from '../page/session'
import { useSettings } from '../page/settings'
import { SettingsMenu, Switch } from '../page/settings-menu'
import { Question, signIn } from '../page/start'
import { words as allWords } from '../page/words'
import { CommandMenu } from './command-menu'
import type { Command } from './commands'
import { Conversation, type ComposerMode, refusalWords } from './conversation'
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
  const [dialog, setDialog] = useState<'keys' | 'commands' | null>(null)
  const [problem, setProblem] = useState('')
  const [isStatusOpen, setStatusOpen] = useState(false)
  const composer = useRef<ComposerHandle>(null)
  const search = useRef<HTMLInputElement>(null)
  const call = useAttention(settings)

  const hear = useCallback(
    (message: Record<string, unknown>) => {
      if (message['sender_role'] === 'client') call(words.client, String(message['content'] ?? ''))
    },
    [call, words],
  )
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
    setProblem('')
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
  const show = (tab: InboxTab) => inbox?.show({ tab })
  const attempt = (run: Promise<unknown> | undefined) => {
    setProblem('')
    run?.catch((error: unknown) => setProblem(refusalWords(error, words)))
  }
  const commands: Command[] = [
    { name: 'next', keys: ['j', 'ArrowDown'], run: () => move(1) },
    { name: 'previous', keys: ['k', 'ArrowUp'], run: () => move(-1) },
    { name: 'reply', keys: ['r'], run: () => write('reply') },
    { name: 'note', keys: ['n'], run: () => write('note') },
    { name: 'assign', keys: ['a'], run: () => attempt(selected ? inbox?.claim(selected) : undefined) },
    { name: 'takeOver', keys: ['A'], run: () => attempt(selected ? inbox?.claim(selected, { force: true }) : undefined) },
    { name: 'close', keys: ['e'], run: () => attempt(chat.setClosed(true)) },
    { name: 'reopen', keys: ['E'], run: () => attempt(chat.setClosed(false)) },
    { name: 'status', keys: ['s'], run: () => setStatusOpen(true) },
    { name: 'search', keys: ['/'], run: () => search.current?.focus() },
    { name: 'unassigned', keys: ['g u'], run: () => show('unassigned') },
    { name: 'mine', keys: ['g m'], run: () => show('mine') },
    { name: 'all', keys: ['g a'], run: () => show('open') },
    { name: 'sound', keys: ['m'], run: () => change({ sound: !settings.sound }) },
    { name: 'keys', keys: ['?'], run: () => setDialog('keys') },
    { name: 'menu', keys: ['mod+k'], run: () => setDialog('commands') },
  ]
  useKeys(commands)
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
            <SettingsMenu settings={settings} change={change} words={words}>
              <Switch isOn={settings.receipts} label={words.receiptsSetting} onChange={(receipts) => change({ receipts })} />
            </SettingsMenu>
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
            problem={problem}
            attempt={attempt}
            isReadTold={settings.receipts}
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
        <HealthStrip status={status} words={words} onKeys={() => setDialog('keys')} />
        <Announcer messages={chat.messages} isReady={!chat.isLoading} />
        {dialog === 'keys' && <KeyHelp commands={commands} words={words} onClose={() => setDialog(null)} />}
        {dialog === 'commands' && <CommandMenu commands={commands} words={words} onClose={() => setDialog(null)} />}
      </div>
    </TextProvider>
  )
}
