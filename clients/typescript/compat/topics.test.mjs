// Broadcast and presence, by the newest published client in both versions and by the oldest one, which speaks 1.0.0 only.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, test } from 'node:test'

import { createClient } from '@supabase/supabase-js'
import { createClient as createOldestClient } from 'supabase-js-oldest'

import { Received, connectClient, relayUrl } from './harness.mjs'

const CLIENTS = [
  ['newest, 1.0.0', '1.0.0', createClient],
  ['newest, 2.0.0', '2.0.0', createClient],
  ['oldest', undefined, createOldestClient],
]

/** A joined channel; `listen` adds its listeners before it joins. */
async function join(client, name, config, listen = () => {}) {
  const channel = client.channel(name, { config })
  listen(channel)
  const statuses = new Received()
  channel.subscribe((status, error) => statuses.push({ status, error }))
  await statuses.until('SUBSCRIBED', ({ status }) => status === 'SUBSCRIBED')
  return channel
}

for (const [name, vsn, create] of CLIENTS) {
  describe(`client ${name}`, () => {
    let clients
    const connect = (version = vsn, make = create) => {
      const client = connectClient(version, relayUrl, make)
      clients.push(client)
      return client
    }

    beforeEach(() => {
      clients = []
    })

    afterEach(async () => {
      for (const client of clients) {
        await client.removeAllChannels()
        await client.realtime.disconnect()
      }
    })

    test('a broadcast comes back to who asked for it, and is acknowledged', async () => {
      const received = new Received()
      const payload = { text: 'hällo', list: [1, null, { deep: true }] }
      const channel = await join(
        connect(),
        `room:${randomUUID()}`,
        { broadcast: { self: true, ack: true } },
        (it) => it.on('broadcast', { event: 'message' }, received.push),
      )
      const answer = await channel.send({ type: 'broadcast', event: 'message', payload })
      assert.equal(answer, 'ok')
      const [message] = await received.until('the echo', () => true)
      assert.equal(message.event, 'message')
      assert.deepEqual(message.payload, payload)
    })

    test('every version hears every other', async () => {
      const room = `room:${randomUUID()}`
      const everybody = CLIENTS.map(([, version, make]) => connect(version, make))
      const heard = everybody.map(() => new Received())
      const listening = everybody.map((client, index) =>
        join(client, room, {}, (it) => it.on('broadcast', { event: 'e' }, heard[index].push)),
      )
      await Promise.all(listening)
      const speaker = await join(connect(), room, {})
      await speaker.send({ type: 'broadcast', event: 'e', payload: { n: 1 } })
      for (const received of heard) {
        const [message] = await received.until('the broadcast', () => true)
        assert.deepEqual(message.payload, { n: 1 })
      }
    })

    test('presence shows who is there, and who goes', async () => {
      const room = `room:${randomUUID()}`
      const [joins, leaves] = [new Received(), new Received()]
      const watching = connect()
      const watcher = await join(watching, room, { presence: { key: 'watcher' } }, (it) =>
        it.on('presence', { event: 'join' }, joins.push).on('presence', { event: 'leave' }, leaves.push),
      )
      assert.equal(await watcher.track({ name: 'w' }), 'ok')
      const other = connect()
      const guest = await join(other, room, { presence: { key: 'guest', enabled: true } })
      assert.equal(await guest.track({ name: 'g' }), 'ok')
      const all = await joins.until('the guest', ({ key }) => key === 'guest')
      const arrival = all.find(({ key }) => key === 'guest')
      assert.equal(arrival.newPresences[0].name, 'g')
      assert.deepEqual(Object.keys(watcher.presenceState()).sort(), ['guest', 'watcher'])
      await other.removeAllChannels()
      await leaves.until('its leave', ({ key }) => key === 'guest')
    })
  })
}

describe('newest client', () => {
  test('bytes arrive as they were sent', async () => {
    const client = connectClient('2.0.0')
    const received = new Received()
    const channel = await join(client, `room:${randomUUID()}`, { broadcast: { self: true } }, (it) =>
      it.on('broadcast', { event: 'bytes' }, received.push),
    )
    const bytes = new Uint8Array([0, 1, 254, 255])
    await channel.send({ type: 'broadcast', event: 'bytes', payload: bytes.buffer })
    const [message] = await received.until('the bytes', () => true)
    assert.deepEqual(new Uint8Array(message.payload), bytes)
    await client.realtime.disconnect()
  })

  test('httpSend reaches both versions', async () => {
    const room = `room:${randomUUID()}`
    const clients = ['1.0.0', '2.0.0'].map((vsn) => connectClient(vsn))
    const heard = clients.map(() => new Received())
    await Promise.all(
      clients.map((client, index) =>
        join(client, room, {}, (it) => it.on('broadcast', { event: 'user/joined' }, heard[index].push)),
      ),
    )
    const answer = await clients[0].channel(room).httpSend('user/joined', { n: 1 })
    assert.deepEqual(answer, { success: true })
    for (const received of heard) {
      const [message] = await received.until('the broadcast', () => true)
      assert.deepEqual(message.payload, { n: 1 })
    }
    for (const client of clients) await client.realtime.disconnect()
  })

  test('what is sent before the socket is open goes by HTTP', async () => {
    const room = `room:${randomUUID()}`
    const [listener, speaker] = [connectClient('2.0.0'), connectClient('2.0.0')]
    const received = new Received()
    await join(listener, room, {}, (it) => it.on('broadcast', { event: 'e' }, received.push))
    const answer = await speaker.channel(room).send({ type: 'broadcast', event: 'e', payload: { n: 1 } })
    assert.equal(answer, 'ok')
    const [message] = await received.until('the broadcast', () => true)
    assert.deepEqual(message.payload, { n: 1 })
    for (const client of [listener, speaker]) await client.realtime.disconnect()
  })
})
