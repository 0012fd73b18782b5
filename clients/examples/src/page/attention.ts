import { useCallback, useEffect, useRef } from 'react'

import type { Settings } from './settings'

/** Milliseconds between two calls for attention. */
const COOLDOWN = 3_000

/** Two short tones, made here so that no file has to be loaded. */
function playTone(): void {
  const audio = new AudioContext()
  const gain = audio.createGain()
  gain.connect(audio.destination)
  gain.gain.setValueAtTime(0.08, audio.currentTime)
  gain.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.35)
  for (const [at, pitch] of [
    [0, 660],
    [0.12, 880],
  ] as const) {
    const tone = audio.createOscillator()
    tone.frequency.value = pitch
    tone.connect(gain)
    tone.start(audio.currentTime + at)
    tone.stop(audio.currentTime + at + 0.2)
    tone.onended = () => at > 0 && void audio.close()
  }
}

/** Shows a message on the desktop; a press on it brings the page to the front. */
function notify(title: string, text: string): void {
  try {
    const notification = new Notification(title, { body: text, tag: 'pgrelay' })
    notification.onclick = () => {
      window.focus()
      notification.close()
    }
  } catch {
    // Phones offer these to service workers only.
  }
}

/** Asks whether the desktop may be used. Only a press may ask. */
export async function allowNotifications(): Promise<boolean> {
  if (typeof Notification === 'undefined') return false
  return (await Notification.requestPermission()) === 'granted'
}

/**
 * Returns a function that calls for attention, if the page is not in front: with a sound, which browsers allow once the
 * page has been used, and on the desktop, if that was asked for.
 */
export function useAttention({ sound, notifications }: Settings): (title: string, text: string) => void {
  const calledAt = useRef(0)
  return useCallback(
    (title, text) => {
      if (document.hasFocus() || Date.now() - calledAt.current < COOLDOWN) return
      calledAt.current = Date.now()
      if (sound && navigator.userActivation?.hasBeenActive) playTone()
      if (notifications && typeof Notification !== 'undefined' && Notification.permission === 'granted') notify(title, text)
    },
    [sound, notifications],
  )
}

/** A dot on the page's icon while something is unread. */
export function useIconDot(isOn: boolean): void {
  useEffect(() => {
    const dot = isOn ? '<circle cx="12.5" cy="3.5" r="3.5" fill="%23d93025"/>' : ''
    const bubble = '<path d="M2 3h12v8H7l-3 3v-3H2z" fill="%231d5fd1"/>'
    const link = document.querySelector<HTMLLinkElement>('link[rel=icon]')
    if (link) link.href = `data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${bubble}${dot}</svg>`
  }, [isOn])
}
