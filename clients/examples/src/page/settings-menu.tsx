import type { ReactNode } from 'react'

import { allowNotifications } from './attention'
import type { Settings } from './settings'
import type { Words } from './words'

interface SettingsMenuProps {
  settings: Settings
  change: (change: Partial<Settings>) => void
  words: Words
  /** What only one of the pages has. */
  children?: ReactNode
}

/** Appearance, language, sound and notifications. */
export function SettingsMenu({ settings, change, words, children }: SettingsMenuProps) {
  return (
    <details className="menu">
      <summary aria-label={words.settings} title={words.settings}>
        <span aria-hidden="true">⋯</span>
      </summary>
      <div className="menu-box">
        <label>
          {words.theme}
          <select value={settings.theme} onChange={({ target }) => change({ theme: target.value as Settings['theme'] })}>
            {(['system', 'light', 'dark'] as const).map((theme) => (
              <option key={theme} value={theme}>
                {words.themes[theme]}
              </option>
            ))}
          </select>
        </label>
        <label>
          {words.language}
          <select value={settings.language} onChange={({ target }) => change({ language: target.value as Settings['language'] })}>
            <option value="en">English</option>
            <option value="de">Deutsch</option>
          </select>
        </label>
        <Switch isOn={settings.sound} label={words.sound} onChange={(sound) => change({ sound })} />
        <Switch
          isOn={settings.notifications}
          label={words.notifications}
          onChange={(isWanted) => {
            if (isWanted) void allowNotifications().then((notifications) => change({ notifications }))
            else change({ notifications: false })
          }}
        />
        {children}
      </div>
    </details>
  )
}

export function Switch({ isOn, label, onChange }: { isOn: boolean; label: string; onChange: (isOn: boolean) => void }) {
  return (
    <label className="line">
      <input type="checkbox" checked={isOn} onChange={({ target }) => onChange(target.checked)} />
      {label}
    </label>
  )
}
