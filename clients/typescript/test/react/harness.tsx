import { act, type ReactElement, StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { onTestFinished, vi } from 'vitest'

import { configure } from '../../src/chat'
import { CLIENT, world } from '../chat/harness'

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true })

/** A server, and a page that talks to it as the client of a booking. */
export function page() {
  const made = world()
  const errors = vi.spyOn(console, 'error')
  configure(made.relayFor(CLIENT))
  onTestFinished(() => {
    const said = errors.mock.calls.map(([first]) => String(first))
    errors.mockRestore()
    if (said.length) throw new Error(`the console says: ${said.join('\n')}`)
  })
  return made
}

/** Renders under StrictMode. */
export function mount(element: ReactElement) {
  const container = document.createElement('div')
  document.body.append(container)
  const root = createRoot(container)
  const render = (next: ReactElement) => act(async () => root.render(<StrictMode>{next}</StrictMode>))
  let isMounted = true
  const unmount = () =>
    act(async () => {
      if (isMounted) root.unmount()
      isMounted = false
      container.remove()
    })
  onTestFinished(unmount)
  return { container, render, unmount, ready: render(element) }
}

export { act }
