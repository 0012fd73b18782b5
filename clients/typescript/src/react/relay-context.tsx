import { createContext, type ReactNode, useContext } from 'react'

import type { Relay } from '../core'
import { defaultRelay } from '../chat'

const RelayContext = createContext<Relay | null>(null)

/** Lets hooks below use this relay. Without it they use the one given to `configure`. */
export function RelayProvider({ relay, children }: { relay: Relay; children?: ReactNode }) {
  return <RelayContext.Provider value={relay}>{children}</RelayContext.Provider>
}

/** The relay that hooks use here; null while rendering on a server without a provider. */
export function useRelay(): Relay | null {
  const given = useContext(RelayContext)
  return given ?? (typeof window === 'undefined' ? null : defaultRelay())
}
