import { readFileSync } from 'node:fs'

import { describe, expect, it } from 'vitest'

import { filter } from '../../src/core/filter'
import { entryIds, joinEntry, readMessage } from '../../src/core/protocol'
import { decodeFrame, encodeFrame } from '../../src/core/serializer'

const golden = (name: string): Record<string, any>[] =>
  JSON.parse(readFileSync(new URL(`../../../../crates/protocol/fixtures/${name}.json`, import.meta.url), 'utf8'))

const bytes = (hex: string) => Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16)).buffer as ArrayBuffer

describe('frames of the server', () => {
  it.each(golden('server_text').map((one) => [one['name'], one] as const))('are read: %s', (_name, { v2, message }) => {
    const frame = decodeFrame(v2)!
    const [joinRef, ref, topic, event, payload] = JSON.parse(v2)
    expect(frame).toEqual({ join_ref: joinRef, ref, topic, event, payload })
    expect(encodeFrame(frame)).toBe(v2)
    const read = readMessage(event, payload)
    if (message.kind === 'changes') {
      const data = JSON.parse(message.data)
      expect(read).toMatchObject({ kind: 'change', ids: message.ids, change: { type: data.type, table: data.table } })
      expect(read).toMatchObject({ change: { cursor: message.cursor, record: data.record ?? data.old_record } })
    }
  })

  it.each(golden('server_broadcast').map((one) => [one['name'], one] as const))('are read: broadcast, %s', (_name, one) => {
    if (!one['v2']) return
    const raw = one['v2'].text ?? bytes(one['v2'].binary)
    const frame = decodeFrame(raw)!
    expect(frame).toMatchObject({ topic: one['topic'], event: 'broadcast', payload: { event: one['event'] } })
    const { payload } = frame.payload as { payload: unknown }
    const expected = bytes(one['payload'])
    if (one['encoding'] === 'binary') expect(new Uint8Array(payload as ArrayBuffer)).toEqual(new Uint8Array(expected))
    else expect(payload).toEqual(JSON.parse(new TextDecoder().decode(expected)))
  })

  it.each(['', '[', '{}', '["1"]', '[null,null,1,2,3]'])('that are broken are left out: %s', (raw) => {
    expect(decodeFrame(raw)).toBeUndefined()
  })

  it('that are cut off or of an unknown kind are left out', () => {
    for (const hex of ['', '09', '04ff', '040e0600017265616c']) expect(decodeFrame(bytes(hex))).toBeUndefined()
  })

  it('reads the ids of a join reply in order', () => {
    for (const { reply } of golden('join_replies').filter((one) => one['reply']?.response?.postgres_changes)) {
      expect(entryIds(reply.response)).toEqual(reply.response.postgres_changes.map((entry: any) => entry.id))
    }
    expect(entryIds({})).toEqual([])
  })
})

describe('what the document shows', () => {
  const document = readFileSync(new URL('../../../../PROTOCOL.md', import.meta.url), 'utf8')
  const transcript = [...document.matchAll(/^([<>]) (\[.*\])$/gm)].map(([, side, raw]) => ({ side, raw: raw! }))

  it('is what this client says and understands', () => {
    expect(transcript.length).toBeGreaterThan(10)
    for (const { side, raw } of transcript) {
      const frame = decodeFrame(raw)!
      if (side === '<' && frame.event === 'system') expect(readMessage('system', frame.payload)).toBeDefined()
      if (frame.event !== 'phx_join') continue
      const { config } = frame.payload as { config: { postgres_changes: any[] } }
      for (const entry of config.postgres_changes) expect(joinEntry(entry, entry.since)).toEqual(entry)
    }
  })

  it.each([
    ['Subscribed to PostgreSQL', 'ok', { cursor: 'c', recovered: true }, { kind: 'live', cursor: 'c', recovered: true }],
    ['Subscribed to PostgreSQL', 'ok', {}, { kind: 'live', cursor: undefined, recovered: false }],
    ['checkpoint', 'ok', { cursor: 'c' }, { kind: 'checkpoint', cursor: 'c' }],
    ['must_refetch', 'error', { cursor: 'c', reason: 'hole' }, { kind: 'must_refetch', cursor: 'c', reason: 'hole' }],
    ['Error parsing', 'error', { binding: 7 }, { kind: 'binding_error', message: 'Error parsing', binding: 7 }],
  ])('system message %s', (message, status, more, expected) => {
    expect(readMessage('system', { channel: 'x', extension: 'postgres_changes', status, message, ...more })).toEqual(expected)
  })
})

describe('filters', () => {
  const known = new Map(golden('filters').map((one) => [one['filter'], one['parsed']]))

  it.each([
    [filter.eq('id', 1), [['id', false, 'eq', '1']]],
    [filter.not(filter.eq('c', 'v')), [['c', true, 'eq', 'v']]],
    [filter.isDistinct('c', 'v'), [['c', false, 'isdistinct', 'v']]],
    [filter.lte('c', 'v'), [['c', false, 'lte', 'v']]],
  ])('%s is written as the server reads it', (written, parsed) => {
    expect(known.get(written)).toEqual(parsed)
  })

  it.each([
    [filter.eq('name', 'a,b'), 'name=eq."a,b"'],
    [filter.eq('name', 'say "hi"'), 'name=eq."say \\"hi\\""'],
    [filter.eq('name', ''), 'name=eq.""'],
    [filter.oneOf('status', ['a', 'b)']), 'status=in.("a","b)")'],
    [filter.not(filter.is('note', null)), 'note=not.is.null'],
    [filter.all(filter.gt('n', 1), filter.lt('n', 5)), 'n=gt.1,n=lt.5'],
  ])('no value changes the meaning of %s', (written, expected) => {
    expect(written).toBe(expected)
  })
})
