import type { Channel } from 'phoenix'

import { backoff } from './backoff'
import type { Clock } from './clock'
import type { Link } from './link'
import type { Undo } from './listeners'
import { RelayError } from './relay-error'

export interface TopicHandlers {
  /** Made anew for every join, so that each carries the newest cursor and token. */
  payload(): Record<string, unknown>
  /** The server took the join. Called for every rejoin too. */
  joined(response: unknown): void
  /** Not joined (any more). Joining again goes on by itself unless the error cannot be mended by that. */
  lost(error: RelayError): void
  message(event: string, payload: unknown): void
}

/** A channel as its users see it. */
export interface JoinedTopic {
  readonly isJoined: boolean
  /** Sends if joined; what is ephemeral is not kept for later. */
  push(event: string, payload: object): void
  close(): void
}

/** Answers to a join that a new token may change. */
const TOKEN_REASONS = /^(InvalidJWTToken|MalformedJWT|JwtSign|ExpiredToken)|[Tt]oken/

/** The server's `reason` as an error. */
function refusal(response: unknown): RelayError {
  const given = (response as { reason?: unknown } | null)?.reason
  const reason = typeof given === 'string' ? given : 'the server refused the channel'
  if (TOKEN_REASONS.test(reason)) return new RelayError('auth_required', reason, { retryable: true })
  if (/^(Unauthorized|TopicName)/.test(reason)) return new RelayError('denied', reason)
  return new RelayError('join_refused', reason, { retryable: true })
}

/** One topic on the link, joined again after every loss, also when the server has ended the channel. */
export class TopicChannel implements JoinedTopic {
  readonly #link: Link
  readonly #clock: Clock
  readonly #topic: string
  readonly #handlers: TopicHandlers
  #channel: Channel | undefined
  #closed = false
  #timer: unknown
  #unwait: Undo = () => {}
  #endings = 0
  #lastRefusal: RelayError | undefined

  constructor(link: Link, clock: Clock, topic: string, handlers: TopicHandlers) {
    this.#link = link
    this.#clock = clock
    this.#topic = topic
    this.#handlers = handlers
    this.#begin()
  }

  get isJoined(): boolean {
    return this.#channel?.state === 'joined'
  }

  push(event: string, payload: object): void {
    if (this.isJoined) this.#channel!.push(event, payload)
  }

  close(): void {
    this.#closed = true
    this.#clock.clearTimeout(this.#timer)
    this.#unwait()
    this.#channel?.leave()
  }

  /** Not before the connection is open: a join that waits would carry the token and cursor of now. */
  #begin(): void {
    this.#unwait = this.#link.whenOpen(() => this.#join())
  }

  #join(): void {
    const channel = this.#link.channel(`realtime:${this.#topic}`, () => this.#handlers.payload())
    this.#channel = channel
    channel.onMessage = (event: string, payload: unknown) => {
      if (!this.#closed && channel === this.#channel) this.#receive(event, payload)
      return payload
    }
    channel.onError((reason?: unknown) => {
      if (this.#closed || channel !== this.#channel) return
      const cause = reason && Object.keys(reason as object).length ? reason : undefined
      this.#handlers.lost(new RelayError('closed', 'the channel was lost', { retryable: true, cause }))
    })
    channel
      .join()
      .receive('ok', (response: unknown) => {
        this.#endings = 0
        this.#lastRefusal = undefined
        if (!this.#closed) this.#handlers.joined(response)
      })
      .receive('error', (response: unknown) => {
        const error = refusal(response)
        if (!error.retryable) this.close()
        this.#handlers.lost(error)
      })
      .receive('timeout', () => {
        if (!this.#closed) this.#handlers.lost(new RelayError('timeout', 'no answer to the join', { retryable: true }))
      })
  }

  #receive(event: string, payload: unknown): void {
    if (event === 'phx_close') return this.#ended()
    if (event.startsWith('phx_') || event.startsWith('chan_reply_')) return
    if (event === 'system' && (payload as { extension?: unknown })?.extension === 'system') {
      this.#lastRefusal = refusal({ reason: (payload as { message?: unknown }).message })
    }
    this.#handlers.message(event, payload)
  }

  /** phoenix does not come back after an orderly end; a token that ran out or a server that restarts is no reason to stay away. */
  #ended(): void {
    this.#channel = undefined
    const error = this.#lastRefusal ?? new RelayError('closed', 'the server ended the channel', { retryable: true })
    this.#lastRefusal = undefined
    this.#handlers.lost(error)
    if (this.#closed) return
    this.#timer = this.#clock.setTimeout(() => this.#begin(), backoff(++this.#endings, this.#clock.random()))
  }
}
