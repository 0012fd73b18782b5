/** Tabs of one origin that work for the same user: one of them leads, and they can tell each other things. */
export interface TabHold {
  readonly isLeading: boolean
  tell(message: unknown): void
  release(): void
}

/**
 * Joins the tabs under `name`; null means to be alone. Without locks every tab leads: they may then send the same message
 * twice, which the server takes for once.
 */
export function holdTab(name: string | null, { told, leads }: { told: (message: unknown) => void; leads: () => void }): TabHold {
  const locks = name === null ? undefined : globalThis.navigator?.locks
  const channel = name === null || typeof BroadcastChannel === 'undefined' ? undefined : new BroadcastChannel(name)
  let isLeading = false
  let isReleased = false
  const abort = new AbortController()
  let release = () => {}
  const lead = () => {
    if (isReleased) return
    isLeading = true
    leads()
  }
  if (channel) channel.onmessage = ({ data }) => told(data)
  if (locks) {
    const held = new Promise<void>((resolve) => (release = resolve))
    locks
      .request(name!, { signal: abort.signal }, () => {
        lead()
        return held
      })
      .catch(() => {})
  } else {
    queueMicrotask(lead)
  }
  return {
    get isLeading() {
      return isLeading
    },
    tell: (message) => isReleased || channel?.postMessage(message),
    release: () => {
      isLeading = false
      isReleased = true
      channel?.close()
      abort.abort()
      release()
    },
  }
}
