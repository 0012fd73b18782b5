import { type Relay, RelayError, type Row, toRelayError } from '../core'
import type { Booking, Receipt, ServerMessage } from './message'

export interface Page {
  booking: Booking
  messages: ServerMessage[]
  receipts: Receipt[]
  has_more: boolean
}

/** Milliseconds that an answer may take. */
const ANSWER_TIMEOUT = 10_000

interface ErrorBody extends Row {
  code?: string
  message?: string
  retryable?: boolean
  retry_after?: number
}

/** The chat over HTTP. Every failure is a RelayError with the server's code. */
export class ChatApi {
  readonly #relay: Relay

  constructor(relay: Relay) {
    this.#relay = relay
  }

  async request<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const { tokens } = this.#relay
    try {
      return await this.#ask<T>(method, path, await this.#relay.loadToken(), body, signal)
    } catch (error) {
      const before = tokens.current
      if (!(error instanceof RelayError) || error.status !== 401) throw error
      const token = await tokens.refresh().catch(() => null)
      if (!token || token === before) throw error
      return this.#ask<T>(method, path, token, body, signal)
    }
  }

  page(booking: string, range: { before?: number; after?: number } = {}, signal?: AbortSignal): Promise<Page> {
    const query = new URLSearchParams({ bookingId: booking })
    for (const [key, seq] of Object.entries(range)) query.set(key, String(seq))
    return this.request('GET', `/api/messages?${query}`, undefined, signal)
  }

  async #ask<T>(method: string, path: string, token: string | null, body: unknown, signal?: AbortSignal): Promise<T> {
    const { clock, fetch, url } = this.#relay
    const abort = new AbortController()
    const timer = clock.setTimeout(() => {
      abort.abort(new RelayError('timeout', "The server didn't answer.", { retryable: true }))
    }, ANSWER_TIMEOUT)
    signal?.addEventListener('abort', () => abort.abort(signal.reason))
    try {
      const headers: Record<string, string> = { accept: 'application/json' }
      if (body !== undefined) headers['content-type'] = 'application/json'
      if (token) headers['authorization'] = `Bearer ${token}`
      const init = { method, headers, signal: abort.signal, ...(body !== undefined && { body: JSON.stringify(body) }) }
      const response = await fetch(url + path, init)
      const answer: unknown = response.status === 204 ? null : await response.json().catch(() => null)
      if (!response.ok) throw refusal(response.status, answer)
      return answer as T
    } catch (error) {
      throw toRelayError(abort.signal.aborted ? abort.signal.reason : error)
    } finally {
      clock.clearTimeout(timer)
    }
  }
}

function refusal(status: number, answer: unknown): RelayError {
  const { code, message, retryable, retry_after, ...details } = ((answer as { error?: unknown })?.error ?? {}) as ErrorBody
  const isTransient = status === 429 || status >= 500
  return new RelayError(code ?? (status === 401 ? 'auth_required' : 'server'), message ?? "The server didn't answer.", {
    status,
    retryable: retryable ?? isTransient,
    details,
    ...(retry_after !== undefined && { retryAfter: retry_after }),
  })
}
