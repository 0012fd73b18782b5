import 'pgrelay/styles.css'
import './page.css'

import { createRelay } from 'pgrelay'
import { configure } from 'pgrelay/chat'
import { type FormEvent, type ReactNode, StrictMode } from 'react'
import { createRoot } from 'react-dom/client'

import { keepToken, readSession, type Session, watchToken } from './session'

/** Starts a page: its relay speaks for whoever the address names. */
export function start(page: (session: Session) => ReactNode): void {
  const session = readSession()
  let { token } = session
  const relay = configure(createRelay({ getToken: () => token || null }))
  watchToken((renewed) => {
    // A page that asks for a token has nothing yet that could go on.
    if (!token) return location.reload()
    token = renewed
    void relay.tokens.refresh().then(() => relay.retry())
  })
  createRoot(document.getElementById('root')!).render(<StrictMode>{page(session)}</StrictMode>)
}

/** One question in the middle of the page. */
export function Question({
  title,
  text,
  label,
  button,
  onAnswer,
}: {
  title: string
  text: string
  label: string
  button: string
  onAnswer: (answer: string) => void
}) {
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault()
    const answer = String(new FormData(event.currentTarget).get('answer')).trim()
    if (answer) onAnswer(answer)
  }
  return (
    <main className="question">
      <h1>{title}</h1>
      <p>{text}</p>
      <form onSubmit={submit}>
        <label htmlFor="answer">{label}</label>
        <input id="answer" name="answer" autoComplete="off" required />
        <button type="submit" className="button">
          {button}
        </button>
      </form>
    </main>
  )
}

export function signIn(token: string): void {
  keepToken(token)
  location.reload()
}
