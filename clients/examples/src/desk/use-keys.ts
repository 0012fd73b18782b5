import { useEffect, useRef } from 'react'

/** Milliseconds within which the second key of two has to follow. */
const SEQUENCE = 1_000

const isWriting = (target: EventTarget | null) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))

/** Runs an action for a key, or for two in a row such as `g u`. None while one writes, but Escape, which ends that. */
export function useKeys(actions: Record<string, () => void>): void {
  const newest = useRef(actions)
  useEffect(() => {
    newest.current = actions
  })
  useEffect(() => {
    let first: { key: string; at: number } | undefined
    const press = (event: KeyboardEvent) => {
      if (event.key === 'Escape' && event.target instanceof HTMLElement) event.target.blur()
      const isElsewhere = isWriting(event.target) || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')
      // Arrows move within the list of messages while that has the focus.
      const isInList = event.key.startsWith('Arrow') && event.target instanceof Element && event.target.closest('[role=log]')
      if (isElsewhere || isInList) return
      const pair = first && Date.now() - first.at < SEQUENCE ? `${first.key} ${event.key}` : ''
      first = { key: event.key, at: Date.now() }
      const action = newest.current[pair] ?? newest.current[event.key]
      if (!action) return
      event.preventDefault()
      action()
    }
    window.addEventListener('keydown', press)
    return () => window.removeEventListener('keydown', press)
  }, [])
}
