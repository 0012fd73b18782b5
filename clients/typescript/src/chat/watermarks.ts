import type { Relay } from '../core'
import type { ChatApi } from './api'

/** Milliseconds between two receipts of a conversation. */
const RECEIPT_INTERVAL = 1_000
const RETRY_INTERVAL = 5_000

/** Tells how far this device has received and its user has read: rising marks, at most one request a second. */
export class Watermarks {
  readonly #relay: Relay
  readonly #api: ChatApi
  readonly #bookingId: string
  #wanted = { delivered_seq: 0, read_seq: 0 }
  #told = { delivered_seq: 0, read_seq: 0 }
  #timer: unknown
  #isIdle = true

  constructor(relay: Relay, api: ChatApi, bookingId: string) {
    this.#relay = relay
    this.#api = api
    this.#bookingId = bookingId
  }

  /** What the server knows of this user already. */
  known(delivered: number, read: number): void {
    this.#told = { delivered_seq: Math.max(this.#told.delivered_seq, delivered), read_seq: Math.max(this.#told.read_seq, read) }
    this.#wanted.read_seq = Math.max(this.#wanted.read_seq, read)
  }

  get read(): number {
    return this.#wanted.read_seq
  }

  raise(delivered: number, read = 0): void {
    const { delivered_seq, read_seq } = this.#wanted
    this.#wanted = { delivered_seq: Math.max(delivered_seq, delivered, read), read_seq: Math.max(read_seq, read) }
    if (this.#isIdle) void this.#tell()
  }

  close(): void {
    this.#relay.clock.clearTimeout(this.#timer)
    this.#isIdle = false
  }

  async #tell(): Promise<void> {
    const { delivered_seq, read_seq } = this.#wanted
    if (delivered_seq <= this.#told.delivered_seq && read_seq <= this.#told.read_seq) return
    this.#isIdle = false
    if (this.#relay.status.get().network === 'offline') return this.#later(RETRY_INTERVAL)
    let pause = RECEIPT_INTERVAL
    try {
      await this.#api.request('POST', '/api/receipts', { bookingId: this.#bookingId, delivered_seq, read_seq })
      this.known(delivered_seq, read_seq)
    } catch {
      pause = RETRY_INTERVAL
    }
    this.#later(pause)
  }

  #later(pause: number): void {
    this.#timer = this.#relay.clock.setTimeout(() => {
      this.#isIdle = true
      void this.#tell()
    }, pause)
  }
}
