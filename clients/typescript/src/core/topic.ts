import { Listeners, type Undo } from './listeners'
import { type PresenceMeta, type PresenceState, readMessage, type Row } from './protocol'
import type { RelayError } from './relay-error'
import type { TopicChannel, TopicHandlers } from './topic-channel'

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

export interface TopicHost {
  openTopic(topic: string, handlers: TopicHandlers): TopicChannel
  token(): string | null
  closed(): void
}

/** A channel for what is not kept: broadcasts, and who is there. */
export class Topic {
  readonly #host: TopicHost
  readonly #listeners = new Listeners<TopicEvents>()
  readonly #channel: TopicChannel
  #members = new Map<string, readonly PresenceMeta[]>()
  #tracked: Row | undefined

  constructor(host: TopicHost, name: string, options: TopicOptions) {
    this.#host = host
    this.#channel = host.openTopic(name, {
      payload: () => ({
        config: {
          broadcast: { ack: false, self: options.self ?? false },
          presence: { enabled: options.presenceKey !== undefined, key: options.presenceKey ?? '' },
          private: options.private ?? false,
          postgres_changes: [],
        },
        access_token: host.token(),
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
    this.#host.closed()
  }

  #track(): void {
    if (this.#tracked) this.#channel.push('presence', { type: 'presence', event: 'track', payload: this.#tracked })
  }

  #receive(event: string, payload: unknown): void {
    const message = readMessage(event, payload)
    if (message?.kind === 'broadcast') this.#listeners.emit('broadcast', { event: message.event, payload: message.payload })
    else if (message?.kind === 'presence_state') this.#setMembers(applyDiff(new Map(), message.state, {}))
    else if (message?.kind === 'presence_diff') this.#setMembers(applyDiff(this.#members, message.joins, message.leaves))
  }

  #setMembers(members: Map<string, readonly PresenceMeta[]>): void {
    if (members.size === 0 && this.#members.size === 0) return
    this.#members = members
    this.#listeners.emit('presence', members)
  }
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
