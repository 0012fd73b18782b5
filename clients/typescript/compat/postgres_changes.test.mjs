import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'

import { postgresChangesFilter } from '@supabase/supabase-js'

import {
  connectClient,
  connectDatabase,
  createBooking,
  createTables,
  isLive,
  openChannel,
  openLiveChannel,
  say,
  startProxy,
} from './harness.mjs'

const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

let database

before(async () => {
  database = await connectDatabase()
  await createTables(database)
})

after(() => database.end())

const messagesOf = (booking, event = 'INSERT') => ({
  event,
  schema: 'public',
  table: 'messages',
  filter: `booking_id=eq.${booking}`,
})
const content = (change) => change.new.content
const contents = (changes) => changes.map(content)
const saying = (text) => (change) => content(change) === text

for (const vsn of ['1.0.0', '2.0.0']) {
  describe(`protocol ${vsn}`, () => {
    let client
    let booking

    beforeEach(async () => {
      client = connectClient(vsn)
      booking = await createBooking(database)
    })

    afterEach(async () => {
      await client.removeAllChannels()
      await client.realtime.disconnect()
    })

    test('a committed insert arrives, complete', async () => {
      const { changes, system } = await openLiveChannel(client, `messages:${booking}`, messagesOf(booking))
      await say(database, booking, 'hello')
      const [change] = await changes[0].until('the insert', saying('hello'))
      const { commit_timestamp, new: row, ...rest } = change
      assert.match(commit_timestamp, TIMESTAMP)
      assert.deepEqual(rest, { schema: 'public', table: 'messages', eventType: 'INSERT', old: {}, errors: null })
      const { id, ...columns } = row
      assert.equal(typeof id, 'number')
      assert.deepEqual(columns, { booking_id: booking, content: 'hello', sender_role: 'client' })
      const [{ channel, message }] = system.all.filter(isLive)
      assert.equal(channel, `messages:${booking}`)
      assert.equal(message, 'Subscribed to PostgreSQL')
    })

    test('inserts of a transaction arrive in order, once, and those rolled back never', async () => {
      const { changes } = await openLiveChannel(client, `messages:${booking}`, messagesOf(booking))
      await database.query('begin')
      await say(database, booking, 'never')
      await database.query('rollback')
      await database.query('begin')
      await say(database, booking, 'one')
      await database.query('savepoint s')
      await say(database, booking, 'never either')
      await database.query('rollback to s')
      await say(database, booking, 'two')
      await database.query('commit')
      await say(database, booking, 'three')
      const received = await changes[0].until('the last insert', saying('three'))
      assert.deepEqual(contents(received), ['one', 'two', 'three'])
    })

    test("another booking's messages do not arrive", async () => {
      const other = await createBooking(database)
      const { changes } = await openLiveChannel(client, `messages:${booking}`, messagesOf(booking))
      await say(database, other, 'not for you')
      await say(database, booking, 'for you')
      const received = await changes[0].until('the insert', saying('for you'))
      assert.deepEqual(contents(received), ['for you'])
    })

    test('an update of a booking arrives by its id', async () => {
      const filter = { event: 'UPDATE', schema: 'public', table: 'bookings', filter: `id=eq.${booking}` }
      const { changes } = await openLiveChannel(client, `booking:${booking}`, filter)
      const other = await createBooking(database)
      await database.query("update public.bookings set status = 'cancelled' where id = $1", [other])
      await database.query("update public.bookings set status = 'confirmed' where id = $1", [booking])
      const received = await changes[0].until('the update', () => true)
      assert.equal(received.length, 1)
      assert.equal(received[0].eventType, 'UPDATE')
      assert.deepEqual(received[0].new, { id: booking, status: 'confirmed', note: null })
      assert.deepEqual(received[0].old, { id: booking })
    })

    test('* receives insert, update and delete, in order', async () => {
      const { changes } = await openLiveChannel(client, `all:${booking}`, {
        event: '*',
        schema: 'public',
        table: 'messages',
      })
      await say(database, booking, 'first')
      await database.query("update public.messages set content = 'second' where booking_id = $1", [booking])
      await database.query('delete from public.messages where booking_id = $1', [booking])
      const received = await changes[0].until('the delete', ({ eventType }) => eventType === 'DELETE')
      assert.deepEqual(
        received.map(({ eventType }) => eventType),
        ['INSERT', 'UPDATE', 'DELETE'],
      )
      const [{ new: inserted }, { new: updated, old: before }, { new: none, old: deleted }] = received
      assert.equal(inserted.content, 'first')
      assert.equal(updated.content, 'second')
      assert.deepEqual(before, { id: inserted.id })
      assert.deepEqual(none, {})
      assert.deepEqual(deleted, { id: inserted.id })
    })

    test('each binding of a channel receives what is its own', async () => {
      const bookings = { event: 'UPDATE', schema: 'public', table: 'bookings', filter: `id=eq.${booking}` }
      const { changes } = await openLiveChannel(
        client,
        `room:${booking}`,
        messagesOf(booking),
        bookings,
        messagesOf(booking, 'DELETE'),
        messagesOf(booking, '*'),
      )
      const [inserts, updates, deletes, everything] = changes
      await say(database, booking, 'one')
      await database.query("update public.bookings set note = 'x' where id = $1", [booking])
      await database.query("update public.messages set content = 'two' where booking_id = $1", [booking])
      await everything.until('the update of a message', saying('two'))
      await updates.until('the update of the booking', () => true)
      assert.deepEqual(contents(inserts.all), ['one'])
      assert.deepEqual(
        updates.all.map(({ table, new: row }) => [table, row.note]),
        [['bookings', 'x']],
      )
      assert.deepEqual(deletes.all, [])
      assert.deepEqual(contents(everything.all), ['one', 'two'])
    })

    test("the client's own filter builder is understood", async () => {
      const filter = (build) => ({
        event: 'INSERT',
        schema: 'public',
        table: 'messages',
        filter: build(postgresChangesFilter().eq('booking_id', booking)),
      })
      const { changes } = await openLiveChannel(
        client,
        `filters:${booking}`,
        filter((base) => base.eq('content', 'a,b')),
        filter((base) => base.in('content', ['a,b', '(c)', 'say "d"'])),
        filter((base) => base.not('content', 'in', ['a,b', '(c)'])),
        filter((base) => base.like('content', '%d%')),
        filter((base) => base.gt('id', 0).neq('sender_role', 'client')),
        filter((base) => base),
      )
      for (const text of ['a,b', '(c)', 'say "d"', 'fin']) await say(database, booking, text)
      await changes[5].until('the last insert', saying('fin'))
      assert.deepEqual(
        changes.map((received) => contents(received.all)),
        [['a,b'], ['a,b', '(c)', 'say "d"'], ['say "d"', 'fin'], ['say "d"'], [], ['a,b', '(c)', 'say "d"', 'fin']],
      )
    })

    test('select narrows the row to its columns and the key', async () => {
      const { changes } = await openLiveChannel(client, `select:${booking}`, {
        ...messagesOf(booking),
        select: ['content'],
      })
      await say(database, booking, 'narrow')
      const [change] = await changes[0].until('the insert', saying('narrow'))
      assert.deepEqual(Object.keys(change.new).sort(), ['content', 'id'])
    })

    test('a table that is not published is spoken of, and the other binding is live', async () => {
      const unpublished = { event: 'INSERT', schema: 'public', table: 'unpublished' }
      const { changes, statuses, system } = await openLiveChannel(
        client,
        `mixed:${booking}`,
        unpublished,
        messagesOf(booking),
      )
      const received = await system.until('the complaint', ({ status }) => status === 'error')
      const { extension, channel, message } = received.find(({ status }) => status === 'error')
      assert.equal(extension, 'postgres_changes')
      assert.equal(channel, `mixed:${booking}`)
      assert.match(message, /^Unable to subscribe to changes with given parameters/)
      await say(database, booking, 'still here')
      await changes[1].until('the insert', saying('still here'))
      assert.deepEqual(
        statuses.all.map(({ status }) => status),
        ['SUBSCRIBED'],
      )
    })

    test('a table published while the relay runs is live at the next join', async () => {
      const table = `late_${vsn.replaceAll('.', '_')}`
      await database.query(`create table public.${table} (id int primary key)`)
      await database.query(`grant select on public.${table} to anon`)
      await database.query(`alter publication supabase_realtime add table public.${table}`)
      const { changes } = await openLiveChannel(client, table, { event: '*', schema: 'public', table })
      await database.query(`insert into public.${table} values (1)`)
      const [change] = await changes[0].until('the insert', () => true)
      assert.deepEqual(change.new, { id: 1 })
    })

    test('a channel comes back after its socket was cut', async (context) => {
      const proxy = await startProxy()
      const distant = connectClient(vsn, proxy.url)
      context.after(async () => {
        await distant.removeAllChannels()
        await distant.realtime.disconnect()
        await proxy.close()
      })
      const { changes, statuses, system } = await openLiveChannel(distant, `cut:${booking}`, messagesOf(booking))
      await say(database, booking, 'before')
      await changes[0].until('the first insert', saying('before'))
      statuses.clear()
      system.clear()
      proxy.cut()
      await statuses.until('SUBSCRIBED again', ({ status }) => status === 'SUBSCRIBED')
      await system.until('live bindings again', isLive)
      await say(database, booking, 'after')
      const received = await changes[0].until('the insert after the cut', saying('after'))
      assert.deepEqual(contents(received), ['before', 'after'])
    })

    test('a removed channel is silent, and its neighbours are not', async () => {
      const removed = await openLiveChannel(client, `removed:${booking}`, messagesOf(booking))
      const stays = await openLiveChannel(client, `stays:${booking}`, messagesOf(booking))
      assert.equal(await client.removeChannel(removed.channel), 'ok')
      await say(database, booking, 'unheard')
      await stays.changes[0].until('the insert', saying('unheard'))
      assert.deepEqual(removed.changes[0].all, [])
      assert.deepEqual(
        client.getChannels().map(({ topic }) => topic),
        [`realtime:stays:${booking}`],
      )
    })

    test('the same topic can be opened again at once after it was removed', async () => {
      const first = await openLiveChannel(client, `again:${booking}`, messagesOf(booking))
      const leaving = client.removeChannel(first.channel)
      const second = await openLiveChannel(client, `again:${booking}`, messagesOf(booking))
      await leaving
      await say(database, booking, 'heard once')
      const received = await second.changes[0].until('the insert', saying('heard once'))
      assert.equal(received.length, 1)
      assert.deepEqual(first.changes[0].all, [])
    })

    test('two clients of one booking both receive', async (context) => {
      const colleague = connectClient(vsn === '1.0.0' ? '2.0.0' : '1.0.0')
      context.after(async () => {
        await colleague.removeAllChannels()
        await colleague.realtime.disconnect()
      })
      const mine = await openLiveChannel(client, `messages:${booking}`, messagesOf(booking))
      const theirs = await openLiveChannel(colleague, `messages:${booking}`, messagesOf(booking))
      await say(database, booking, 'both')
      const [[here], [there]] = await Promise.all(
        [mine, theirs].map(({ changes }) => changes[0].until('the insert', saying('both'))),
      )
      assert.deepEqual(here, there)
    })

    test('a channel without bindings is subscribed and says nothing of PostgreSQL', async () => {
      const plain = openChannel(client, `plain:${booking}`)
      await plain.statuses.until('SUBSCRIBED', ({ status }) => status === 'SUBSCRIBED')
      await openLiveChannel(client, `messages:${booking}`, messagesOf(booking))
      assert.deepEqual(plain.system.all, [])
    })
  })
}
