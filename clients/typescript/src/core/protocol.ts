/** The wire as types, and how to read what comes in. PROTOCOL.md is the specification. No I/O, no clock. */

/** A position in the stream of changes: opaque, compared for equality only. */
export type Cursor = string

export type Row = Record<string, unknown>

/** What one entry of a subscription asks for. */
export interface ChangeEntry {
  /** All of them by default. */
  event?: 'INSERT' | 'UPDATE' | 'DELETE' | '*'
  /** `public` by default. */
  schema?: string
  table: string
  filter?: string
  select?: readonly string[]
}

/** One committed change of one row. */
export interface Change<T extends Row = Row> {
  type: 'INSERT' | 'UPDATE' | 'DELETE'
  schema: string
  table: string
  /** The new row; of a DELETE what is known of the old one. */
  record: T
  oldRecord: Partial<T> | null
  /** When it was committed. */
  committedAt: string
  /** Where it stands in the stream; missing from servers without cursors. */
  cursor: Cursor | undefined
  /** The row was too large to be sent whole: fetch it. */
  truncated: boolean
}

/** Why changes may be missing. `no_cursor`: the server does not resume. */
export type GapReason = 'retention' | 'epoch' | 'forged' | 'schema' | 'hole' | 'authorization' | 'no_cursor' | (string & {})

/** What a server says about the entries of a channel, beyond replies. */
export type ServerMessage =
  | { kind: 'change'; ids: readonly number[]; change: Change }
  | { kind: 'live'; cursor: Cursor | undefined; recovered: boolean }
  | { kind: 'checkpoint'; cursor: Cursor }
  | { kind: 'must_refetch'; reason: GapReason; cursor: Cursor | undefined }
  | { kind: 'binding_error'; message: string; binding: number | undefined }
  | { kind: 'channel_error'; message: string }

export const isObject = (value: unknown): value is Row => typeof value === 'object' && value !== null && !Array.isArray(value)
const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

/** The entry as it goes into a join. */
export function joinEntry(entry: ChangeEntry, since: Cursor | 'now'): Row {
  const { event = '*', schema = 'public', table, filter, select } = entry
  return {
    event,
    schema,
    table,
    ...(filter && { filter }),
    ...(select && { select: select.join(',') }),
    since,
  }
}

/** The ids the server gave the entries, in the order in which they were asked for. */
export function entryIds(response: unknown): number[] {
  const entries = isObject(response) ? response['postgres_changes'] : undefined
  return Array.isArray(entries) ? entries.map((entry) => (isObject(entry) ? Number(entry['id']) : NaN)) : []
}

/** A pushed message, or undefined for one that tells nothing of changes. */
export function readMessage(event: string, payload: unknown): ServerMessage | undefined {
  if (!isObject(payload)) return undefined
  if (event === 'postgres_changes') return readChange(payload)
  return event === 'system' ? readSystem(payload) : undefined
}

function readChange(payload: Row): ServerMessage | undefined {
  const { ids, data, cursor } = payload
  if (!isObject(data)) return undefined
  const type = data['type']
  if (type !== 'INSERT' && type !== 'UPDATE' && type !== 'DELETE') return undefined
  const record = isObject(data['record']) ? data['record'] : undefined
  const oldRecord = isObject(data['old_record']) ? data['old_record'] : undefined
  const change: Change = {
    type,
    schema: text(data['schema']) ?? '',
    table: text(data['table']) ?? '',
    record: record ?? oldRecord ?? {},
    oldRecord: oldRecord ?? null,
    committedAt: text(data['commit_timestamp']) ?? '',
    cursor: text(cursor),
    truncated: Array.isArray(data['errors']) && data['errors'].length > 0,
  }
  return { kind: 'change', ids: Array.isArray(ids) ? ids.map(Number) : [], change }
}

function readSystem(payload: Row): ServerMessage {
  const message = text(payload['message']) ?? ''
  const cursor = text(payload['cursor'])
  if (payload['extension'] !== 'postgres_changes') return { kind: 'channel_error', message }
  if (message === 'checkpoint' && cursor) return { kind: 'checkpoint', cursor }
  if (message === 'must_refetch') {
    return { kind: 'must_refetch', reason: text(payload['reason']) ?? 'hole', cursor }
  }
  if (payload['status'] === 'ok') return { kind: 'live', cursor, recovered: payload['recovered'] === true }
  const binding = payload['binding']
  return { kind: 'binding_error', message, binding: typeof binding === 'number' ? binding : undefined }
}
