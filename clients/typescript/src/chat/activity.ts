import { openTopic, type PresenceMeta, type Relay, type Topic, type Undo } from '../core'
import type { Me, SenderRole } from './message'

/** Somebody in the conversation's channel. */
export interface Member {
  id: string
  role: SenderRole
  name: string | null
  /** Has not looked at the conversation for a while. */
  isAway: boolean
}

/** Milliseconds between two signs that somebody types; without another one within TYPING_END they have stopped. */
const TYPING_INTERVAL = 3_000
const TYPING_END = 5_000
/** Milliseconds that somebody who has left counts as there: a reload is no departure. */
const GRACE = 5_000
/** Milliseconds after which somebody who does not look is away, and between two looks at whether they do. */
const AWAY_AFTER = 300_000
const LOOK_INTERVAL = 30_000

/** Who is there and who types: the private channel of a booking. What is said here is never kept. */
export class Activity {
  readonly #relay: Relay
  readonly #topic: Topic
  readonly #me: Me
  readonly #changed: () => void
  readonly #typing = new Map<string, { member: Member; timer: unknown }>()
  readonly #members = new Map<string, Member>()
  readonly #leaving = new Map<string, unknown>()
  readonly #undo: Undo[]
  #typedAt = -Infinity
  #stop: unknown
  #seenAt: number
  #isAway = false
  #looking: unknown

  constructor(relay: Relay, bookingId: string, me: Me, changed: () => void) {
    this.#relay = relay
    this.#me = me
    this.#changed = changed
    this.#topic = openTopic(relay, `booking:${bookingId}`, { private: true, presenceKey: me.id ?? '' })
    this.#seenAt = relay.clock.now()
    this.#track()
    this.#look()
    this.#undo = [
      relay.signals.listen((signal) => signal === 'wake' && this.#look()),
      this.#topic.on('broadcast', ({ event, payload }) => event === 'typing' && this.#hear(payload as Member & { typing: boolean })),
      this.#topic.on('presence', (members) => {
        const present = [...members].filter(([id]) => id !== me.id)
        this.#see(present.map(([id, metas]) => readMember(id, metas)))
      }),
    ]
  }

  get typing(): Member[] {
    return [...this.#typing.values()].map(({ member }) => member)
  }

  get members(): Member[] {
    return [...this.#members.values()]
  }

  /** The user types, or has stopped. */
  setTyping(isTyping: boolean): void {
    const { clock } = this.#relay
    clock.clearTimeout(this.#stop)
    if (isTyping) this.#stop = clock.setTimeout(() => this.setTyping(false), TYPING_END)
    const isQuiet = clock.now() - this.#typedAt >= TYPING_INTERVAL
    if (isTyping ? !isQuiet : this.#typedAt === -Infinity) return
    this.#typedAt = isTyping ? clock.now() : -Infinity
    this.#topic.broadcast('typing', { ...this.#me, typing: isTyping })
  }

  close(): void {
    for (const undo of this.#undo) undo()
    const { clock } = this.#relay
    for (const { timer } of this.#typing.values()) clock.clearTimeout(timer)
    for (const timer of this.#leaving.values()) clock.clearTimeout(timer)
    clock.clearTimeout(this.#stop)
    clock.clearTimeout(this.#looking)
    this.#topic.close()
  }

  /** Somebody's message has come, so they do not type it any more. */
  sent(id: string | null): void {
    if (id) this.#hush(id)
  }

  #track(): void {
    this.#topic.track({ role: this.#me.role, name: this.#me.name, away: this.#isAway })
  }

  #look(): void {
    const { clock, signals } = this.#relay
    clock.clearTimeout(this.#looking)
    this.#looking = clock.setTimeout(() => this.#look(), LOOK_INTERVAL)
    if (signals.visible()) this.#seenAt = clock.now()
    const isAway = clock.now() - this.#seenAt >= AWAY_AFTER
    if (isAway === this.#isAway) return
    this.#isAway = isAway
    this.#track()
  }

  #hear({ typing, ...member }: Member & { typing: boolean }): void {
    if (!member.id || member.id === this.#me.id) return
    this.#hush(member.id, !typing)
    if (!typing) return
    this.#typing.set(member.id, { member, timer: this.#relay.clock.setTimeout(() => this.#hush(member.id), TYPING_END) })
    this.#changed()
  }

  #hush(id: string, isTold = true): void {
    this.#relay.clock.clearTimeout(this.#typing.get(id)?.timer)
    if (this.#typing.delete(id) && isTold) this.#changed()
  }

  #see(present: Member[]): void {
    const { clock } = this.#relay
    for (const member of present) {
      clock.clearTimeout(this.#leaving.get(member.id))
      this.#leaving.delete(member.id)
      this.#members.set(member.id, member)
    }
    for (const id of this.#members.keys()) {
      if (present.some((member) => member.id === id) || this.#leaving.has(id)) continue
      const leave = () => {
        this.#leaving.delete(id)
        this.#members.delete(id)
        this.#hush(id)
        this.#changed()
      }
      this.#leaving.set(id, clock.setTimeout(leave, GRACE))
    }
    this.#changed()
  }
}

/** Somebody is away if they are on all of their devices. */
function readMember(id: string, metas: readonly PresenceMeta[]): Member {
  const { role, name } = metas[0] as { role?: SenderRole; name?: string | null }
  return { id, role: role ?? 'client', name: name ?? null, isAway: metas.every(({ away }) => away === true) }
}
