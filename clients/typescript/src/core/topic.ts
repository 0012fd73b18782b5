import { Listeners, type Undo } from './listeners'
import { isObject, type Row } from './protocol'
import type { Relay } from './relay'
import type { RelayError } from './relay-error'
import type { JoinedTopic } from './topic-channel'

/** What a member tells of itself, and the name of the device it does so on. */
export type PresenceMeta = Row & { phx_ref: string }
export type PresenceState = Record<string, { metas: PresenceMeta[] }>

export interface TopicOptions {
  /** Only for those whom the policies of `realtime.messages` admit. */
  private?: boolean
  /** Whether one's own broadcasts come back. */
  self?: boolean
  /** The name under which this client is present; with it members are known. */
  presenceKey?: string
}

export interface TopicEvents {
  joined: undefined
  lost: RelayError
  broadcast: { event: string; payload: unknown }
  /** All members by key, one record for each of their devices. */
  presence: ReadonlyMap<string, readonly PresenceMeta[]>
}

/** A channel for what is not kept: broadcasts, and who is there. */
export class Topic {
  readonly #listeners = new Listeners<TopicEvents>()
  readonly #channel: JoinedTopic
  #members = new Map<string, readonly PresenceMeta[]>()
  #tracked: Row | undefined

  constructor(relay: Relay, name: string, options: TopicOptions) {
    this.#channel = relay.join(name, {
      payload: () => ({
        config: {
          broadcast: { ack: false, self: options.self ?? false },
          presence: { enabled: options.presenceKey !== undefined, key: options.presenceKey ?? '' },
          private: options.private ?? false,
          postgres_changes: [],
        },
        access_token: relay.token(),
      }),
      joined: () => {
        this.#track()
        this.#listeners.emit('joined', undefined)
      },
      lost: (error) => {
        this.#setMembers(new Map())
        this.#listeners.emit('lost', error)
      },
      message: (event, payload) => this.#receive(event, payload),
    })
  }

  on<Name extends keyof TopicEvents>(name: Name, listener: (payload: TopicEvents[Name]) => void): Undo {
    return this.#listeners.on(name, listener)
  }

  get members(): ReadonlyMap<string, readonly PresenceMeta[]> {
    return this.#members
  }

  /** Tells the other members; lost if the channel is not joined. */
  broadcast(event: string, payload: Row): void {
    this.#channel.push('broadcast', { type: 'broadcast', event, payload })
  }

  /** Is present from now on, after every reconnect too. */
  track(meta: Row): void {
    this.#tracked = meta
    this.#track()
  }

  close(): void {
    this.#listeners.clear()
    this.#channel.close()
  }

  #track(): void {
    if (this.#tracked) this.#channel.push('presence', { type: 'presence', event: 'track', payload: this.#tracked })
  }

  #receive(event: string, payload: unknown): void {
    if (!isObject(payload)) return
    if (event === 'broadcast') this.#listeners.emit('broadcast', { event: String(payload['event']), payload: payload['payload'] })
    if (event === 'presence_state') this.#setMembers(applyDiff(new Map(), readPresence(payload), {}))
    if (event === 'presence_diff') {
      this.#setMembers(applyDiff(this.#members, readPresence(payload['joins']), readPresence(payload['leaves'])))
    }
  }

  #setMembers(members: Map<string, readonly PresenceMeta[]>): void {
    if (members.size === 0 && this.#members.size === 0) return
    this.#members = members
    this.#listeners.emit('presence', members)
  }
}

/** Joins a channel for broadcasts and presence. */
export function openTopic(relay: Relay, name: string, options: TopicOptions = {}): Topic {
  return new Topic(relay, name, options)
}

function readPresence(value: unknown): PresenceState {
  const state: PresenceState = {}
  for (const [key, presence] of Object.entries(isObject(value) ? value : {})) {
    if (isObject(presence) && Array.isArray(presence['metas'])) state[key] = { metas: presence['metas'] as PresenceMeta[] }
  }
  return state
}

/** Members after some came and some went; a device is known by its `phx_ref`. */
export function applyDiff(
  members: ReadonlyMap<string, readonly PresenceMeta[]>,
  joins: PresenceState,
  leaves: PresenceState,
): Map<string, readonly PresenceMeta[]> {
  const after = new Map(members)
  for (const [key, { metas }] of Object.entries(joins)) {
    const refs = new Set(metas.map((meta) => meta.phx_ref))
    after.set(key, [...(after.get(key) ?? []).filter((meta) => !refs.has(meta.phx_ref)), ...metas])
  }
  for (const [key, { metas }] of Object.entries(leaves)) {
    const refs = new Set(metas.map((meta) => meta.phx_ref))
    const left = (after.get(key) ?? []).filter((meta) => !refs.has(meta.phx_ref))
    if (left.length) after.set(key, left)
    else after.delete(key)
  }
  return after
}
