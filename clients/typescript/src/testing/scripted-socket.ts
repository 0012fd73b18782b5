import { decodeFrame, type Frame } from '../core/serializer'

/** A WebSocket whose other side is a test. */
export class ScriptedSocket {
  static readonly CONNECTING = 0
  static readonly OPEN = 1
  static readonly CLOSING = 2
  static readonly CLOSED = 3
  readyState = 0
  bufferedAmount = 0
  binaryType = 'blob'
  onopen: (() => void) | null = null
  onclose: ((event: { code: number; reason: string }) => void) | null = null
  onerror: ((event: unknown) => void) | null = null
  onmessage: ((event: { data: string | ArrayBuffer }) => void) | null = null
  /** Frames the client has sent. */
  readonly sent: Frame[] = []
  readonly url: string
  /** Called for each frame that the client sends. */
  onSent: (frame: Frame) => void = () => {}
  /** Called when the client closes. */
  onClosed: () => void = () => {}

  constructor(url: string) {
    this.url = url
  }

  send(raw: string): void {
    const frame = decodeFrame(raw)!
    this.sent.push(frame)
    this.onSent(frame)
  }

  close(code = 1000, reason = ''): void {
    if (this.readyState >= 2) return
    this.readyState = 2
    this.onClosed()
    queueMicrotask(() => this.end(code, reason))
  }

  /** The server accepts. */
  accept(): void {
    this.readyState = 1
    this.onopen?.()
  }

  /** The server ends the connection, or the network does (1006). */
  end(code = 1006, reason = ''): void {
    if (this.readyState === 3) return
    const wasClosing = this.readyState === 2
    this.readyState = 3
    if (code === 1006 && !wasClosing) this.onerror?.({ type: 'error' })
    this.onclose?.({ code, reason })
  }

  /** The server sends a frame, or a raw message. */
  receive(frame: Frame | string | ArrayBuffer): void {
    if (this.readyState !== 1) return
    const isRaw = typeof frame === 'string' || frame instanceof ArrayBuffer
    const data = isRaw ? frame : JSON.stringify([frame.join_ref, frame.ref, frame.topic, frame.event, frame.payload])
    this.onmessage?.({ data })
  }

  /** Pushes to a topic as it is joined now. */
  push(topic: string, event: string, payload: unknown): void {
    this.receive({ join_ref: null, ref: null, topic, event, payload })
  }

  /** Answers the last frame of this event. */
  reply(event: string, response: unknown = {}, status: 'ok' | 'error' = 'ok'): void {
    const frame = this.sent.filter((sent) => sent.event === event).at(-1)
    if (!frame) throw new Error(`the client has sent no ${event}`)
    const { join_ref, ref, topic } = frame
    this.receive({ join_ref, ref, topic, event: 'phx_reply', payload: { status, response } })
  }

  /** The last frame of this event. */
  last(event: string): Frame | undefined {
    return this.sent.filter((sent) => sent.event === event).at(-1)
  }
}

export interface SocketScript {
  /** Give it to the relay. */
  WebSocket: new (url: string) => WebSocket
  /** Every socket made, oldest first. */
  sockets: ScriptedSocket[]
  /** The newest. */
  readonly socket: ScriptedSocket
}

/** A constructor of sockets that keeps what it made. `onMade` can set each up. */
export function scriptSockets(onMade: (socket: ScriptedSocket) => void = () => {}): SocketScript {
  const sockets: ScriptedSocket[] = []
  class Made extends ScriptedSocket {
    constructor(url: string) {
      super(url)
      sockets.push(this)
      onMade(this)
    }
  }
  return {
    WebSocket: Made as unknown as SocketScript['WebSocket'],
    sockets,
    get socket() {
      const last = sockets.at(-1)
      if (!last) throw new Error('no socket was made')
      return last
    },
  }
}
