/** Ends what a call has begun. Calling it again does nothing. */
export type Undo = () => void

/**
 * Listeners by event name. A listener that throws breaks neither the others nor whoever emits: its error surfaces as an
 * uncaught one.
 */
export class Listeners<Events extends object> {
  readonly #sets = new Map<keyof Events, Set<(payload: never) => void>>()

  on<Name extends keyof Events>(name: Name, listener: (payload: Events[Name]) => void): Undo {
    let set = this.#sets.get(name)
    if (!set) this.#sets.set(name, (set = new Set()))
    // A function of its own, so that the same listener can be added twice and removed once.
    const call = (payload: never) => listener(payload)
    set.add(call)
    return () => void set.delete(call)
  }

  emit<Name extends keyof Events>(name: Name, payload: Events[Name]): void {
    for (const call of [...(this.#sets.get(name) ?? [])]) {
      try {
        call(payload as never)
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }

  clear(): void {
    this.#sets.clear()
  }
}

/**
 * A value and those who watch it. Watchers are told in a microtask, once for all changes made before it: never in the
 * middle of the call that makes the change.
 */
export class Store<Value> {
  #value: Value
  #told = true
  readonly #listeners = new Listeners<{ change: Value }>()

  constructor(value: Value) {
    this.#value = value
  }

  /** The same reference until something changes. */
  get = (): Value => this.#value

  subscribe = (listener: (value: Value) => void): Undo => this.#listeners.on('change', listener)

  set(value: Value): void {
    if (Object.is(value, this.#value)) return
    this.#value = value
    if (!this.#told) return
    this.#told = false
    queueMicrotask(() => {
      this.#told = true
      this.#listeners.emit('change', this.#value)
    })
  }
}
