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
    window.addEventListener('online', online)
    window.addEventListener('offline', offline)
    window.addEventListener('pageshow', wake)
    document.addEventListener('visibilitychange', wake)
    document.addEventListener('resume', wake)
    return () => {
      window.removeEventListener('online', online)
      window.removeEventListener('offline', offline)
      window.removeEventListener('pageshow', wake)
      document.removeEventListener('visibilitychange', wake)
      document.removeEventListener('resume', wake)
    }
  },
}
