import { createContext, type ReactNode, useContext } from 'react'

import { en, type Texts } from './texts'

const TextContext = createContext<Texts>(en)

/** Lets the components below speak another language: one of the catalogues here, or one of your own. */
export function TextProvider({ texts, children }: { texts: Texts; children?: ReactNode }) {
  return <TextContext.Provider value={texts}>{children}</TextContext.Provider>
}

export function useTexts(): Texts {
  return useContext(TextContext)
}
