import type { Undo } from './listeners'

/** What the device says about itself. */
export interface Signals {
  online(): boolean
  visible(): boolean
  /** `wake`: the page is in front again, or the device has come back from sleep. */
  listen(tell: (signal: 'online' | 'offline' | 'wake') => void): Undo
}

/** The browser's signals; on a server an online device that never sleeps. */
export const browserSignals: Signals = {
  online: () => typeof navigator === 'undefined' || navigator.onLine !== false,
  visible: () => typeof document === 'undefined' || document.visibilityState !== 'hidden',
  listen(tell) {
    if (typeof window === 'undefined' || !window.addEventListener) return () => {}
    const online = () => tell('online')
    const offline = () => tell('offline')
    const wake = () => browserSignals.visible() && tell('wake')
    const listened: [EventTarget, string, () => unknown][] = [
      [window, 'online', online],
      [window, 'offline', offline],
      [window, 'pageshow', wake],
      [document, 'visibilitychange', wake],
      [document, 'resume', wake],
    ]
    for (const [target, name, listener] of listened) target.addEventListener(name, listener)
    return () => {
      for (const [target, name, listener] of listened) target.removeEventListener(name, listener)
    }
  },
}
