/** Who uses a page and which booking it is about: out of its address, and kept for this tab only. */
const TOKEN = 'pgrelay-token'

export interface Session {
  booking: string
  token: string
  /** What messages do while nothing can be reached: wait, or be tried until they fail. */
  offlinePolicy: 'queue' | 'attempt'
}

/** `?booking=<id or code>&offline=attempt#token=<token>`. The token is taken out of the address, so that it is not shared by accident. */
export function readSession(): Session {
  const fragment = new URLSearchParams(location.hash.slice(1))
  const given = fragment.get('token')
  if (given) {
    sessionStorage.setItem(TOKEN, given)
    history.replaceState(null, '', location.pathname + location.search)
  }
  const query = new URLSearchParams(location.search)
  return {
    booking: query.get('booking') ?? '',
    token: given ?? sessionStorage.getItem(TOKEN) ?? '',
    offlinePolicy: query.get('offline') === 'attempt' ? 'attempt' : 'queue',
  }
}

/** A new link, opened in this tab, brings a new token. */
export function watchToken(renewed: (token: string) => void): void {
  window.addEventListener('hashchange', () => {
    const { token } = readSession()
    if (token) renewed(token)
  })
}

export function keepToken(token: string): void {
  sessionStorage.setItem(TOKEN, token)
}

export function openBooking(code: string): void {
  const query = new URLSearchParams(location.search)
  query.set('booking', code)
  location.search = query.toString()
}
