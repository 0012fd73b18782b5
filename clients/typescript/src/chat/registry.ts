import { createRelay, Listeners, Relay, type RelayOptions, type Undo } from '../core'
import { Chat } from './chat'
import type { ChatOptions } from './chat-state'

/** Milliseconds that a conversation outlives its last user: a page that is drawn anew finds it as it was. */
const LINGER = 1_000
/** On the global object, because a page may hold this package twice: as a module and as a script. */
const DEFAULT = Symbol.for('pgrelay.default')

interface Entry {
  chat: Chat
  users: number
  timer: unknown
}

interface Shelf {
  entries: Map<string, Entry>
  opened: Listeners<{ chat: Chat }>
}

const shelves = new WeakMap<Relay, Shelf>()

function shelfOf(relay: Relay): Shelf {
  let shelf = shelves.get(relay)
  if (!shelf) shelves.set(relay, (shelf = { entries: new Map(), opened: new Listeners() }))
  return shelf
}

/** The conversations that are open on a relay. */
export function openChats(relay: Relay): Chat[] {
  return [...shelfOf(relay).entries.values()].map(({ chat }) => chat)
}

/** Shows every conversation that is open or will be. */
export function watchChats(relay: Relay, see: (chat: Chat) => void): Undo {
  openChats(relay).forEach(see)
  return shelfOf(relay).opened.on('chat', see)
}

/** Sets the relay that hooks and services use where none is given. Call it once, before the first of them. */
export function configure(relay: Relay | RelayOptions): Relay {
  const chosen = relay instanceof Relay ? relay : createRelay(relay)
  ;(globalThis as Record<symbol, unknown>)[DEFAULT] = chosen
  return chosen
}

/** The relay set by `configure`, else one that talks to the page's own origin. */
export function defaultRelay(): Relay {
  return ((globalThis as Record<symbol, unknown>)[DEFAULT] as Relay | undefined) ?? configure({})
}

/** The conversation that everybody who asks for the same one shares. Give it back with `release`. */
export function acquireChat(options: ChatOptions): { chat: Chat; release: () => void } {
  const { relay, bookingId } = options
  const { entries, opened } = shelfOf(relay)
  const key = [bookingId, options.autoLoad !== false, options.realtime !== false, options.offlinePolicy ?? 'queue'].join()
  let held = entries.get(key)
  if (!held) {
    entries.set(key, (held = { chat: new Chat(options), users: 0, timer: undefined }))
    opened.emit('chat', held.chat)
  }
  const entry = held
  relay.clock.clearTimeout(entry.timer)
  entry.users++
  let isHeld = true
  const release = () => {
    if (!isHeld) return
    isHeld = false
    if (--entry.users > 0) return
    entry.timer = relay.clock.setTimeout(() => {
      entries.delete(key)
      entry.chat.close()
    }, LINGER)
  }
  return { chat: entry.chat, release }
}
