import { RelayError, toRelayError } from './relay-error'

/** One event of a Server-Sent Events stream. */
export interface StreamEvent {
  /** `message` if it has no name. */
  name: string
  id: string | undefined
  data: string
}

/** Reads events out of pieces of text, however the network has cut them. */
export class EventParser {
  #rest = ''
  #name = ''
  #id: string | undefined
  #data: string[] = []

  push(piece: string): StreamEvent[] {
    const events: StreamEvent[] = []
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/)
    this.#rest = lines.pop()!
    for (const line of lines) {
      if (line === '') this.#finish(events)
      else this.#field(line)
    }
    return events
  }

  #finish(events: StreamEvent[]): void {
    if (this.#data.length) events.push({ name: this.#name || 'message', id: this.#id, data: this.#data.join('\n') })
    this.#name = ''
    this.#data = []
  }

  #field(line: string): void {
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'data') this.#data.push(value)
    else if (field === 'event') this.#name = value
    else if (field === 'id') this.#id = value
  }
}

/** Reads a stream to its end; every event and every sign of life is told. Rejects with what ended it. */
export async function readEventStream(
  fetchFn: typeof fetch,
  url: string,
  init: RequestInit,
  onEvents: (events: StreamEvent[]) => void,
): Promise<never> {
  let response: Response
  try {
    response = await fetchFn(url, { ...init, headers: { accept: 'text/event-stream', ...init.headers } })
  } catch (error) {
    throw toRelayError(error)
  }
  if (response.status === 401) throw new RelayError('auth_required', 'the key was refused', { retryable: true, status: 401 })
  const isStream = response.ok && response.headers.get('content-type')?.startsWith('text/event-stream')
  if (!isStream || !response.body) {
    throw new RelayError('blocked', `no event stream (status ${response.status})`, { retryable: true, status: response.status })
  }
  const parser = new EventParser()
  const decoder = new TextDecoder()
  const reader = response.body.getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      onEvents(parser.push(decoder.decode(value, { stream: true })))
    }
  } catch (error) {
    throw toRelayError(error)
  }
  throw new RelayError('closed', 'the stream ended', { retryable: true })
}
