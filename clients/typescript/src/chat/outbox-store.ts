import type { Row } from '../core'
import type { Failure } from './message'

/** A message that the server does not have yet, as far as this device knows. */
export interface OutboxItem {
  /** Its `client_id`. */
  id: string
  /** The user it is from. */
  owner: string
  booking: string
  content: string
  type: string
  metadata: Row
  createdAt: string
  /** Its place in the queue. */
  order: number
  /** Tries made. */
  attempts: number
  failure?: Failure
  waiting?: 'network' | 'sign_in'
}

/** Where unsent messages outlive the page. */
export interface OutboxStore {
  readonly isDurable: boolean
  all(): Promise<OutboxItem[]>
  put(item: OutboxItem): Promise<void>
  delete(id: string): Promise<void>
  close(): void
}

/** `queue`: while nothing can be reached, messages wait. `attempt`: they are tried all the same, and fail. */
export type OfflinePolicy = 'queue' | 'attempt'

export function memoryStore(): OutboxStore {
  const items = new Map<string, OutboxItem>()
  return {
    isDurable: false,
    all: async () => [...items.values()],
    put: async (item) => void items.set(item.id, item),
    delete: async (id) => void items.delete(id),
    close: () => {},
  }
}
