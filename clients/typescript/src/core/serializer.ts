/** Frames of protocol 2.0.0, as the phoenix client wants them read and written. What cannot be read is left out. */

export interface Frame {
  join_ref: string | null
  ref: string | null
  topic: string
  event: string
  payload: unknown
}

const USER_BROADCAST = 4

export function encodeFrame({ join_ref, ref, topic, event, payload }: Frame): string {
  return JSON.stringify([join_ref ?? null, ref ?? null, topic, event, payload])
}

export function decodeFrame(raw: string | ArrayBuffer): Frame | undefined {
  try {
    return typeof raw === 'string' ? decodeText(raw) : decodeBroadcast(raw)
  } catch {
    return undefined
  }
}

function decodeText(raw: string): Frame | undefined {
  const frame: unknown = JSON.parse(raw)
  if (!Array.isArray(frame) || typeof frame[2] !== 'string' || typeof frame[3] !== 'string') return undefined
  // The phoenix client looks into every payload.
  return { join_ref: frame[0], ref: frame[1], topic: frame[2], event: frame[3], payload: frame[4] ?? {} }
}

/** `04 T E M encoding topic event metadata payload`, lengths in bytes. */
function decodeBroadcast(raw: ArrayBuffer): Frame | undefined {
  const bytes = new Uint8Array(raw)
  const [kind, topicLength, eventLength, metaLength, encoding] = bytes
  if (kind !== USER_BROADCAST) return undefined
  let at = 5
  const take = (length: number) => bytes.subarray(at, (at += length))
  const decode = (part: Uint8Array) => new TextDecoder().decode(part)
  const topic = decode(take(topicLength!))
  const event = decode(take(eventLength!))
  const meta = decode(take(metaLength!))
  const rest = bytes.slice(at)
  const payload = encoding === 0 ? rest.buffer : JSON.parse(decode(rest))
  return {
    join_ref: null,
    ref: null,
    topic,
    event: 'broadcast',
    payload: { type: 'broadcast', event, payload, ...(meta && { meta: JSON.parse(meta) }) },
  }
}
