import type { Clock } from './clock'
import { RelayError } from './relay-error'

/** Gives the current token, or a new one if the old one runs out. */
export type GetToken = () => string | null | undefined | Promise<string | null | undefined>

/** How long before its end a token is replaced, in milliseconds. */
const REFRESH_AHEAD = 60_000
/** setTimeout does not reach further. */
const TIMER_MAX = 2_147_483_647

/** The claims of a JWT, unverified; empty for what is none. */
export function tokenClaims(token: string | null | undefined): Record<string, unknown> {
  try {
    const body = token!.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/')
    const bytes = Uint8Array.from(atob(body), (char) => char.charCodeAt(0))
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {}
  } catch {
    return {}
  }
}

/** Holds the token of a relay: asks for it once at a time, and again before it runs out. */
export class TokenKeeper {
  readonly #clock: Clock
  readonly #getToken: GetToken
  readonly #onChange: (token: string) => void
  #token: string | null = null
  #asking: Promise<string | null> | undefined
  #timer: unknown

  constructor(clock: Clock, getToken: GetToken, onChange: (token: string) => void) {
    this.#clock = clock
    this.#getToken = getToken
    this.#onChange = onChange
  }

  /** The token as last given. */
  get current(): string | null {
    return this.#token
  }

  /** A token that is good for a while: the current one, else a new one. */
  async load(): Promise<string | null> {
    return this.#token !== null && this.#left() > REFRESH_AHEAD / 2 ? this.#token : this.refresh()
  }

  /** Asks for a token, whatever the current one is. */
  refresh(): Promise<string | null> {
    return (this.#asking ??= this.#ask().finally(() => (this.#asking = undefined)))
  }

  stop(): void {
    this.#clock.clearTimeout(this.#timer)
  }

  async #ask(): Promise<string | null> {
    let token: string | null
    try {
      token = (await this.#getToken()) ?? null
    } catch (cause) {
      throw new RelayError('auth_required', 'getToken failed', { cause, retryable: true })
    }
    const changed = token !== this.#token
    this.#token = token
    this.#schedule()
    if (changed && token !== null) this.#onChange(token)
    return token
  }

  /** Milliseconds until the token ends. */
  #left(): number {
    const end = tokenClaims(this.#token)['exp']
    return typeof end === 'number' ? end * 1000 - this.#clock.now() : Infinity
  }

  #schedule(): void {
    this.stop()
    const left = this.#left()
    if (left === Infinity || left <= 0) return
    const delay = Math.min(TIMER_MAX, Math.max(left - REFRESH_AHEAD, left / 2))
    // A failure is met again by whoever needs the token next.
    this.#timer = this.#clock.setTimeout(() => void this.refresh().catch(() => {}), delay)
  }
}
