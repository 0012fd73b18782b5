/** What went wrong, as a word that programs can compare. The server's own codes (`booking_closed` ...) pass through. */
export type RelayErrorCode =
  | 'auth_required' // no token, or one that is not accepted (any more)
  | 'denied' // the token is good, but not for this
  | 'binding_refused' // one entry of a subscription cannot be live
  | 'join_refused' // the server does not take the channel
  | 'unreachable' // no answer at all
  | 'timeout' // no answer in time
  | 'blocked' // the server answers, but live updates do not get through
  | 'closed' // the channel was ended by the server
  | 'bad_answer' // an answer nobody can read
  | 'outbox_full'
  | 'empty'
  | 'too_long'
  | (string & {})

export interface RelayErrorDetails {
  /** Whether trying the same again later can help. */
  retryable?: boolean
  cause?: unknown
  /** What to do about it, in one sentence. */
  hint?: string
  /** HTTP status, if an HTTP answer said it. */
  status?: number
  /** Seconds to wait before the next try, if the server asked for it. */
  retryAfter?: number
  /** Further members of the server's error. */
  details?: Record<string, unknown>
}

/** Everything that is thrown here, or handed to a callback as an error. */
export class RelayError extends Error {
  readonly code: RelayErrorCode
  readonly retryable: boolean
  readonly hint: string | undefined
  readonly status: number | undefined
  readonly retryAfter: number | undefined
  readonly details: Record<string, unknown>

  constructor(code: RelayErrorCode, message: string, about: RelayErrorDetails = {}) {
    super(message, 'cause' in about ? { cause: about.cause } : undefined)
    this.name = 'RelayError'
    this.code = code
    this.retryable = about.retryable ?? false
    this.hint = about.hint
    this.status = about.status
    this.retryAfter = about.retryAfter
    this.details = about.details ?? {}
  }
}

/** `error` as a RelayError: itself if it is one, else the cause of a new one. */
export function toRelayError(error: unknown, code: RelayErrorCode = 'unreachable'): RelayError {
  if (error instanceof RelayError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new RelayError(code, message, { retryable: true, cause: error })
}
