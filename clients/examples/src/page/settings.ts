import { useEffect, useState } from 'react'

/** What somebody has chosen on this device. */
export interface Settings {
  theme: 'system' | 'light' | 'dark'
  language: 'en' | 'de'
  sound: boolean
  /** Show new messages on the desktop. */
  notifications: boolean
  /** Tell the client how far its messages have been read. */
  receipts: boolean
}

const NAME = 'pgrelay-settings'

function read(): Settings {
  const language = navigator.language.startsWith('de') ? 'de' : 'en'
  const defaults: Settings = { theme: 'system', language, sound: true, notifications: false, receipts: true }
  try {
    return { ...defaults, ...JSON.parse(localStorage.getItem(NAME) ?? '{}') }
  } catch {
    return defaults
  }
}

export function useSettings(): [Settings, (change: Partial<Settings>) => void] {
  const [settings, setSettings] = useState(read)
  useEffect(() => {
    const root = document.documentElement
    root.lang = settings.language
    if (settings.theme === 'system') delete root.dataset['theme']
    else root.dataset['theme'] = settings.theme
    localStorage.setItem(NAME, JSON.stringify(settings))
  }, [settings])
  return [settings, (change) => setSettings((before) => ({ ...before, ...change }))]
}
