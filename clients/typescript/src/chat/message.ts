import type { RelayError, Row } from '../core'

/** How far an own message has come. `delivered`: a device of the other side has it. */
export type DeliveryStatus = 'sending' | 'sent' | 'delivered' | 'read' | 'failed'
export type SenderRole = 'client' | 'operator' | 'system'

/** A message as the server keeps it. */
export interface ServerMessage {
  id: string
  client_id: string
  booking_id: string
  /** Its place in the conversation: 1, 2, 3 ... */
  seq: number
  sender_role: SenderRole
  sender_id: string | null
  message_type: string
  content: string | null
  metadata: Row
  created_at: string
  deleted_at: string | null
}

/** Why a message was not sent, and whether trying again can help. */
export interface Failure {
  kind: 'offline' | 'timeout' | 'server' | 'rejected'
  code: string
  message: string
  retryable: boolean
}

/** A message as it is shown. */
export interface ChatMessage {
  /** The same from the first moment to the last, so it is the key of its bubble. Chosen by the sender. */
  id: string
  /** The server's id; null until the server has it. */
  message_id: string | null
  booking_id: string
  seq: number | null
  content: string
  /** Another name for `content`. */
  message: string
  sender_role: SenderRole
  /** Another name for `sender_role`. */
  sender_type: SenderRole
  sender_id: string | null
  message_type: string
  metadata: Row
  created_at: string
  deleted_at: string | null
  isOwn: boolean
  /** Only of own messages. */
  delivery_status?: DeliveryStatus
  /** How many of its tries were repetitions. */
  retry_count: number
  failure?: Failure
  /** Why an unsent message has to wait, if it does. */
  waiting?: 'network' | 'previous' | 'sign_in'
}

/** How far somebody's devices have received, and somebody has read. */
export interface Receipt {
  booking_id: string
  participant_id: string
  role: SenderRole
  delivered_seq: number
  read_seq: number
  updated_at: string
}

export interface Booking extends Row {
  id: string
  code: string
  status: string
  status_version: number
  client_id: string | null
  client_name?: string | null
  created_at: string
  closed_at?: string | null
}

/** Who is using this device. */
export interface Me {
  id: string | null
  role: SenderRole
  name: string | null
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
export const isUuid = (text: string): boolean => UUID.test(text)

/** Who a token speaks for. */
export function readMe(claims: Record<string, unknown>): Me {
  const { sub, role, app_metadata, user_metadata, name } = claims as Record<string, any>
  const isTeam = role === 'service_role' || app_metadata?.chat_role === 'operator'
  return { id: sub ?? null, role: isTeam ? 'operator' : 'client', name: user_metadata?.name ?? name ?? null }
}

export function toFailure(error: RelayError): Failure {
  const { code, message, retryable } = error
  const kind = code === 'timeout' ? 'timeout' : code === 'unreachable' ? 'offline' : retryable ? 'server' : 'rejected'
  return { kind, code, message, retryable }
}

/** A UUID that sorts by the time it was made at. */
export function newClientId(now: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  for (let at = 0; at < 6; at++) bytes[at] = Math.floor(now / 2 ** (40 - 8 * at)) % 256
  bytes[6] = (bytes[6]! & 15) | 112
  bytes[8] = (bytes[8]! & 63) | 128
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
