import { IDBFactory } from 'fake-indexeddb'
import { afterAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'

import { memoryStore } from '../../src/chat'
import { openIndexedDb } from '../../src/chat/indexed-db'
import { CLIENT, lines, OPERATOR, RECEIVED, world } from './harness'

beforeEach(() => void vi.stubGlobal('indexedDB', new IDBFactory()))
afterAll(() => void vi.unstubAllGlobals())

/** Locks between tabs, as a browser grants them. */
function grantLocks(): void {
  const held = new Map<string, Promise<unknown>>()
  const locks = {
    request: async (name: string, { signal }: { signal: AbortSignal }, run: () => Promise<void>) => {
      const before = held.get(name) ?? Promise.resolve()
      const turn = before.then(() => (signal.aborted ? undefined : run()))
      held.set(name, turn)
      return turn
    },
  }
  vi.stubGlobal('navigator', { locks, onLine: true })
  onTestFinished(() => void vi.unstubAllGlobals())
}

describe('a message whose sending fails', () => {
  it('is tried after 1, 2 and 4 seconds, and then waits for the user', async () => {
    const { clock, server, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    server.faults.refuseMessages = [503, 503, 503, 503]
    const tries = () => server.requests.filter((request) => request === 'POST /api/messages').length
    const sent = chat.send('Hello')
    const seen: [number, string, number][] = []
    for (const pause of [0, 1_000, 2_000, 4_000, 60_000]) {
      await clock.advance(pause)
      const { delivery_status, retry_count } = chat.getSnapshot().messages.at(-1)!
      seen.push([tries(), delivery_status!, retry_count])
    }
    expect(seen).toEqual([
      [1, 'sending', 0],
      [2, 'sending', 1],
      [3, 'sending', 2],
      [4, 'failed', 3],
      [4, 'failed', 3],
    ])
    await expect(sent).resolves.toMatchObject({ delivery_status: 'failed', failure: { kind: 'server', retryable: true } })
    expect(chat.getSnapshot()).toMatchObject({ pendingCount: 1, failedCount: 1 })
    chat.retryAll()
    await clock.settle()
    expect(lines(chat)).toEqual([RECEIVED, 'Hello [sent]'])
    expect(chat.getSnapshot()).toMatchObject({ pendingCount: 0, failedCount: 0 })
  })

  it('is not sent twice when only the answer was lost', async () => {
    const { clock, server, booking, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    server.faults.loseAnswers = 2
    void chat.send('once')
    await clock.advance(10_000)
    expect(lines(chat)).toEqual([RECEIVED, 'once [sent]'])
    expect(server.database.messagesOf(booking)).toHaveLength(2)
  })

  it('holds up those behind it, and they follow in order', async () => {
    const { clock, server, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    server.faults.refuseMessages = [500, 500, 500, 500]
    for (const text of ['one', 'two', 'three']) void chat.send(text)
    await clock.advance(8_000)
    expect(lines(chat)).toEqual([RECEIVED, 'one [failed]', 'two [sending]', 'three [sending]'])
    expect(chat.getSnapshot().messages.map(({ waiting }) => waiting)).toEqual([undefined, undefined, 'previous', 'previous'])
    chat.retry(chat.getSnapshot().messages[1]!.id)
    await clock.settle()
    expect(lines(chat)).toEqual([RECEIVED, 'one [sent]', 'two [sent]', 'three [sent]'])
  })

  it('and was refused for good holds nobody up, is not tried again with all, and can be dropped', async () => {
    const { clock, server, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    server.faults.refuseMessages = [422]
    void chat.send('refused')
    void chat.send('next')
    await clock.settle()
    expect(lines(chat)).toEqual([RECEIVED, 'next [sent]', 'refused [failed]'])
    chat.retryAll()
    await clock.advance(10_000)
    const failed = chat.getSnapshot().messages.at(-1)!
    expect(failed).toMatchObject({ content: 'refused', failure: { kind: 'rejected', retryable: false } })
    expect(chat.discard(failed.id)).toBe('refused')
    await clock.settle()
    expect(lines(chat)).toEqual([RECEIVED, 'next [sent]'])
  })

  it('because of too many waits as long as the server asks', async () => {
    const { clock, server, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    const handle = server.handle.bind(server)
    server.handle = (request) => {
      if (request.method === 'GET') return handle(request)
      server.handle = handle
      return { status: 429, body: { error: { code: 'rate_limited', message: 'Too fast.', retryable: true, retry_after: 8 } } }
    }
    void chat.send('patient')
    await clock.advance(7_000)
    expect(lines(chat).at(-1)).toBe('patient [sending]')
    await clock.advance(1_500)
    expect(lines(chat).at(-1)).toBe('patient [sent]')
  })

  it('because nobody is signed in waits without being used up', async () => {
    const { clock, server, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    server.faults.tokensRefused = true
    void chat.send('later')
    await clock.advance(120_000)
    expect(chat.getSnapshot().messages.at(-1)).toMatchObject({ delivery_status: 'sending', waiting: 'sign_in', retry_count: 0 })
    server.faults.tokensRefused = false
    await clock.advance(60_000)
    expect(lines(chat).at(-1)).toBe('later [sent]')
  })
})

describe('without a network', () => {
  it('messages wait, use up no try, and go out by themselves, in order', async () => {
    const { clock, server, signals, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    signals.tell('offline')
    server.faults.unreachable = true
    const sent = chat.send('one')
    void chat.send('two')
    await clock.advance(60_000)
    expect(lines(chat)).toEqual([RECEIVED, 'one [sending]', 'two [sending]'])
    await expect(sent).resolves.toMatchObject({ waiting: 'network', retry_count: 0 })
    server.faults.unreachable = false
    signals.tell('online')
    await clock.advance(1_000)
    expect(lines(chat)).toEqual([RECEIVED, 'one [sent]', 'two [sent]'])
  })

  it('and without the device knowing, the same', async () => {
    const { clock, server, open } = world()
    const chat = open(CLIENT)
    await clock.settle()
    server.faults.unreachable = true
    server.cut()
    void chat.send('one')
    await clock.advance(120_000)
    expect(lines(chat)).toEqual([RECEIVED, 'one [sending]'])
    server.faults.unreachable = false
    await clock.advance(30_000)
    expect(lines(chat)).toEqual([RECEIVED, 'one [sent]'])
  })

  it('and with policy "attempt" they fail after their tries, and a retry sends them', async () => {
    const { clock, server, signals, open } = world()
    const chat = open(CLIENT, { offlinePolicy: 'attempt' })
    await clock.settle()
    signals.tell('offline')
    server.faults.unreachable = true
    void chat.send('one')
    await clock.advance(1_000)
    expect(lines(chat).at(-1)).toBe('one [sending]')
    await clock.advance(6_000)
    expect(chat.getSnapshot().messages.at(-1)).toMatchObject({ delivery_status: 'failed', retry_count: 3, failure: { kind: 'offline' } })
    server.faults.unreachable = false
    signals.tell('online')
    await clock.advance(60_000)
    expect(lines(chat).at(-1)).toBe('one [failed]')
    chat.retryAll()
    await clock.settle()
    expect(lines(chat).at(-1)).toBe('one [sent]')
  })
})

describe('an outbox on disk', () => {
  it('outlives the page: what was not sent is sent by the next one, in order', async () => {
    const { clock, server, open } = world()
    server.faults.unreachable = true
    const before = open(CLIENT, { openStore: openIndexedDb })
    for (const text of ['one', 'two']) void before.send(text)
    await clock.advance(100)
    before.close()
    server.faults.unreachable = false
    const after = open(CLIENT, { openStore: openIndexedDb })
    await clock.advance(1_000)
    expect(lines(after)).toEqual([RECEIVED, 'one [sent]', 'two [sent]'])
    expect(after.getSnapshot().isDurable).toBe(true)
  })

  it('keeps failed messages failed, until somebody retries', async () => {
    const { clock, server, open } = world()
    const before = open(CLIENT, { openStore: openIndexedDb })
    await clock.settle()
    server.faults.refuseMessages = [500, 500, 500, 500]
    void before.send('stuck')
    await clock.advance(10_000)
    before.close()
    const after = open(CLIENT, { openStore: openIndexedDb })
    await clock.advance(10_000)
    expect(lines(after)).toEqual([RECEIVED, 'stuck [failed]'])
    after.retryAll()
    await clock.settle()
    expect(lines(after)).toEqual([RECEIVED, 'stuck [sent]'])
  })

  it('is not another user’s', async () => {
    const { clock, server, open } = world()
    server.faults.unreachable = true
    const client = open(CLIENT, { openStore: openIndexedDb })
    void client.send('mine')
    await clock.advance(100)
    client.close()
    server.faults.unreachable = false
    const operator = open(OPERATOR, { openStore: openIndexedDb })
    await clock.advance(5_000)
    expect(lines(operator)).toEqual([RECEIVED])
  })

  it('says aloud when there is no disk, and works all the same', async () => {
    const { clock, open } = world()
    const chat = open(CLIENT, { openStore: () => Promise.reject(new Error('private window')) })
    await clock.settle()
    expect(chat.getSnapshot().isDurable).toBe(false)
    void chat.send('Hello')
    await clock.settle()
    expect(lines(chat)).toEqual([RECEIVED, 'Hello [sent]'])
  })

  it('takes no more than it can keep', async () => {
    const { clock, server, open } = world()
    server.faults.unreachable = true
    const chat = open(CLIENT)
    await clock.settle()
    for (let n = 0; n < 200; n++) void chat.send(`n${n}`)
    await clock.settle()
    await expect(chat.send('too many')).rejects.toMatchObject({ code: 'outbox_full' })
    expect(chat.getSnapshot().pendingCount).toBe(200)
  })

  it('is tried only once a message is on it', async () => {
    const { clock, server, open } = world()
    const store = memoryStore()
    let written = () => {}
    const put = store.put
    store.put = async (item) => {
      await new Promise<void>((resolve) => (written = resolve))
      await put(item)
    }
    const chat = open(CLIENT, { openStore: async () => store })
    await clock.settle()
    void chat.send('Hello')
    await clock.advance(5_000)
    expect(server.requests).not.toContain('POST /api/messages')
    written()
    await clock.settle()
    expect(server.requests).toContain('POST /api/messages')
  })
})

describe('of several tabs', () => {
  it('one sends, for all, and the next takes over when it goes', async () => {
    grantLocks()
    const { clock, server, open } = world()
    const first = open(CLIENT, { openStore: openIndexedDb })
    await clock.settle()
    const second = open(CLIENT, { openStore: openIndexedDb })
    await clock.settle()
    const posts = () => server.requests.filter((request) => request === 'POST /api/messages').length
    void second.send('from the second')
    await vi.waitFor(async () => {
      await clock.settle()
      expect(lines(second)).toContain('from the second [sent]')
    })
    expect(posts()).toBe(1)
    expect(lines(first)).toContain('from the second [sent]')
    first.close()
    await clock.settle()
    void second.send('alone')
    await clock.advance(1_000)
    expect(lines(second)).toContain('alone [sent]')
    expect(posts()).toBe(2)
  })

  it('without locks all may send, and the server takes it once', async () => {
    const { clock, server, booking, open } = world()
    const tabs = [open(CLIENT, { openStore: openIndexedDb }), open(CLIENT, { openStore: openIndexedDb })]
    await clock.settle()
    void tabs[0]!.send('Hello')
    await clock.advance(5_000)
    for (const tab of tabs) expect(lines(tab)).toEqual([RECEIVED, 'Hello [sent]'])
    expect(server.database.messagesOf(booking)).toHaveLength(2)
  })
})
