import type { ConnectionPhase, Relay, RelayError, RelayStatus, Row, Transport } from '../core'
import type { Member } from './activity'
import type { Booking, ChatMessage, DeliveryStatus, Me, Receipt, ServerMessage } from './message'
import type { OfflinePolicy, OutboxStore } from './outbox-store'

export interface ChatOptions {
  relay: Relay
  /** Id or code. */
  bookingId: string
  /** What a message does while nothing can be reached; `queue` by default. */
  offlinePolicy?: OfflinePolicy
  /** Milliseconds before the second, third ... try; 1, 2 and 4 seconds by default. */
  retryDelays?: readonly number[]
  /** Load the newest messages. True by default. */
  autoLoad?: boolean
  /** Listen to changes. True by default. */
  realtime?: boolean
  /** Tell and be told who is there and who types. True by default. */
  activity?: boolean
  /** What is there already, such as what a server has rendered. */
  initialMessages?: readonly ServerMessage[]
  /** Where unsent messages are kept. */
  openStore?: (owner: string) => Promise<OutboxStore>
}

export interface ChatSnapshot {
  /** Null until it is loaded. */
  booking: Booking | null
  /** The booking's status; empty until it is known. */
  status: string
  messages: readonly ChatMessage[]
  connectionStatus: ConnectionPhase
  network: RelayStatus['network']
  transport: Transport | null
  nextRetryAt: number | null
  isLoading: boolean
  /** The connection stands, and what was missed is being caught up with. */
  isSyncing: boolean
  hasOlder: boolean
  isLoadingOlder: boolean
  error: RelayError | null
  /** Unsent messages, failed ones included. */
  pendingCount: number
  failedCount: number
  /** Whether unsent messages outlive the page. */
  isDurable: boolean
  /** Messages of others that this user has not read. */
  unreadCount: number
  /** The last message this user has read, as `seq`. */
  readSeq: number
  receipts: readonly Receipt[]
  typing: readonly Member[]
  members: readonly Member[]
  me: Me
}

export interface ChatEvents {
  /** Somebody else's new message. */
  message: ChatMessage
  status: { status: string; booking: Booking }
  delivery: { message: ChatMessage; status: DeliveryStatus }
  /** What was missed could not be recovered, so the newest messages were loaded again. */
  gap: { reason: string }
  error: RelayError
}

export interface SendOptions {
  type?: string
  metadata?: Row
  /** The message's id; a new one if left out. Sending an id twice is sending once. */
  clientId?: string
}

/** Characters a message may have. */
export const CONTENT_MAX = 4_000
