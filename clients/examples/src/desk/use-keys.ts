import { useEffect, useRef } from 'react'

import type { Command } from './commands'

/** Milliseconds within which the second key of two has to follow. */
const SEQUENCE = 1_000

const isWriting = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))

/** Runs commands by their keys. While one writes only those with Ctrl or Cmd, and Escape, which ends the writing. */
export function useKeys(commands: readonly Command[]): void {
  const newest = useRef(commands)
  useEffect(() => {
    newest.current = commands
  })
  useEffect(() => {
    let first: { key: string; at: number } | undefined
    const find = (key: string) => newest.current.find(({ keys }) => keys.includes(key))
    const choose = (event: KeyboardEvent) => {
      if (event.altKey || document.querySelector('dialog[open]')) return undefined
      if (event.ctrlKey || event.metaKey) return find(`mod+${event.key.toLowerCase()}`)
      // Arrows move within the list of messages while that has the focus.
      const isInList = event.key.startsWith('Arrow') && event.target instanceof Element && event.target.closest('[role=log]')
      if (isWriting(event.target) || isInList) return undefined
      const pair = first && Date.now() - first.at < SEQUENCE ? `${first.key} ${event.key}` : ''
      first = { key: event.key, at: Date.now() }
      return find(pair) ?? find(event.key)
    }
    const press = (event: KeyboardEvent) => {
      if (event.key === 'Escape' && event.target instanceof HTMLElement) event.target.blur()
      const command = choose(event)
      if (!command) return
      event.preventDefault()
      command.run()
    }
    window.addEventListener('keydown', press)
    return () => window.removeEventListener('keydown', press)
  }, [])
}
