import type { Settings } from './settings'
import type { Words } from './words'

/** Appearance, language and sound. */
export function SettingsMenu({ settings, change, words }: { settings: Settings; change: (change: Partial<Settings>) => void; words: Words }) {
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
        <label className="line">
          <input type="checkbox" checked={settings.sound} onChange={({ target }) => change({ sound: target.checked })} />
          {words.sound}
        </label>
      </div>
    </details>
  )
}
