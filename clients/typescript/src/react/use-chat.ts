import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react'

import { acquireChat, type Chat, type ChatEvents, type ChatMessage, type ChatSnapshot, type OfflinePolicy, type SendOptions } from '../chat'
import type { ConnectionPhase, Relay } from '../core'
import { useRelay } from './relay-context'

export interface UseChatOptions {
  /** Id or code of the booking. Nothing happens while it is empty. */
  bookingId: string | null | undefined
  autoLoad?: boolean
  enableRealtime?: boolean
  offlinePolicy?: OfflinePolicy
  relay?: Relay
  onStatusUpdate?: (status: string) => void
  onConnectionChange?: (status: ConnectionPhase) => void
  onMessage?: (message: ChatMessage) => void
  onGap?: (gap: ChatEvents['gap']) => void
  onError?: (error: ChatEvents['error']) => void
}

const NOTHING = () => () => {}

/** What a conversation looks like before there is one: on a server, and while no booking is chosen. */
const EMPTY: ChatSnapshot = Object.freeze<ChatSnapshot>({
  booking: null,
  status: '',
  messages: [],
  connectionStatus: 'connecting',
  network: 'online',
  transport: null,
  nextRetryAt: null,
  isLoading: false,
  isSyncing: false,
  hasOlder: false,
  isLoadingOlder: false,
  error: null,
  pendingCount: 0,
  failedCount: 0,
  isDurable: true,
  unreadCount: 0,
  readSeq: 0,
  receipts: [],
  typing: [],
  members: [],
  me: { id: null, role: 'client', name: null },
})
const LOADING: ChatSnapshot = Object.freeze({ ...EMPTY, isLoading: true })

/** The conversation of a booking, shared by all who ask for the same one; null before the first effect. */
function useSharedChat(options: UseChatOptions): Chat | null {
  const context = useRelay()
  const relay = options.relay ?? context
  const { bookingId, autoLoad = true, enableRealtime = true, offlinePolicy = 'queue' } = options
  const [held, setHeld] = useState<{ chat: Chat; bookingId: string } | null>(null)
  useEffect(() => {
    if (!relay || !bookingId) return
    const { chat, release } = acquireChat({ relay, bookingId, autoLoad, realtime: enableRealtime, offlinePolicy })
    setHeld({ chat, bookingId })
    return () => {
      setHeld(null)
      release()
    }
  }, [relay, bookingId, autoLoad, enableRealtime, offlinePolicy])
  return held?.bookingId === bookingId ? held!.chat : null
}

/** The newest version of what a component passes in, for callbacks that outlive a render. */
function useNewest<T>(value: T): { readonly current: T } {
  const ref = useRef(value)
  useEffect(() => {
    ref.current = value
  })
  return ref
}

/** Everything a conversation shows and does. The other hooks are views of this one. */
export function useChat(options: UseChatOptions) {
  const chat = useSharedChat(options)
  const newest = useNewest(options)
  const idle = options.bookingId && options.autoLoad !== false ? LOADING : EMPTY
  const getSnapshot = chat ? chat.getSnapshot : () => idle
  const snapshot = useSyncExternalStore(chat ? chat.subscribe : NOTHING, getSnapshot, () => idle)
  const [sendingCount, setSendingCount] = useState(0)

  useEffect(() => {
    if (!chat) return
    let phase = chat.getSnapshot().connectionStatus
    const undo = [
      chat.on('status', ({ status }) => newest.current.onStatusUpdate?.(status)),
      chat.on('message', (message) => newest.current.onMessage?.(message)),
      chat.on('gap', (gap) => newest.current.onGap?.(gap)),
      chat.on('error', (error) => newest.current.onError?.(error)),
      chat.subscribe(() => {
        const { connectionStatus } = chat.getSnapshot()
        if (connectionStatus !== phase) newest.current.onConnectionChange?.((phase = connectionStatus))
      }),
    ]
    return () => undo.forEach((off) => off())
  }, [chat, newest])

  const sendMessage = useCallback(
    async (text: string, how?: string | SendOptions): Promise<ChatMessage> => {
      if (!chat) throw new Error('no booking is chosen')
      setSendingCount((count) => count + 1)
      try {
        return await chat.send(text, how)
      } finally {
        setSendingCount((count) => count - 1)
      }
    },
    [chat],
  )
  const retryFailedMessages = useCallback(async () => chat?.retryAll(), [chat])
  const retryMessage = useCallback((id: string) => chat?.retry(id), [chat])
  const discardMessage = useCallback((id: string) => chat?.discard(id), [chat])
  const deleteMessage = useCallback(async (id: string) => chat?.remove(id), [chat])
  const loadMessages = useCallback(async () => void (await chat?.load()), [chat])
  const loadOlder = useCallback(async () => chat?.loadOlder(), [chat])
  const markRead = useCallback(() => chat?.markRead(), [chat])
  const setTyping = useCallback((isTyping: boolean) => chat?.setTyping(isTyping), [chat])
  const clearError = useCallback(() => chat?.clearError(), [chat])
  const updateStatus = useCallback(
    async (status: string, how?: { content?: string; note?: string }) => chat?.updateStatus(status, how),
    [chat],
  )
  const setClosed = useCallback(async (closed: boolean) => chat?.setClosed(closed), [chat])

  return {
    ...snapshot,
    currentStatus: snapshot.status,
    pendingMessagesCount: snapshot.pendingCount,
    isSending: sendingCount > 0,
    sendMessage,
    retryFailedMessages,
    retryMessage,
    discardMessage,
    deleteMessage,
    loadMessages,
    loadOlder,
    markRead,
    setTyping,
    clearError,
    updateStatus,
    setClosed,
  }
}

export type UseChatResult = ReturnType<typeof useChat>

export type UseRealtimeChatOptions = Pick<UseChatOptions, 'bookingId' | 'autoLoad' | 'onStatusUpdate' | 'offlinePolicy' | 'relay' | 'onError'>

/** Messages and status of a booking, live. */
export function useRealtimeChat(options: UseRealtimeChatOptions): UseChatResult {
  return useChat(options)
}

export type UseChatWithDeliveryOptions = UseChatOptions

/** The same conversation with everything about delivery; `error` is a sentence for people. */
export function useChatWithDelivery(options: UseChatWithDeliveryOptions): Omit<UseChatResult, 'error'> & { error: string | null } {
  const chat = useChat(options)
  return { ...chat, error: chat.error?.message ?? null }
}
