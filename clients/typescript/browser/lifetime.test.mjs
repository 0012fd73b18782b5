/** Pages, servers and tokens that end. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { createWorld, message, own, send, texts } from './world.mjs'

let world
before(async () => {
  world = await createWorld()
})
after(() => world.close())

test('a page that goes leaves its unsent messages to the next one', () =>
  world.withPair(async ({ client, operator, proxies, again }) => {
    proxies.client.cut()
    await send(client.page, 'kept on disk')
    await own(client.page, 'kept on disk', 'sending').waitFor()
    await client.page.getByText('Waiting for network').waitFor()
    await client.page.close()
    proxies.client.restore()
    const next = await again('client', client.context)
    await message(operator.page, 'kept on disk').waitFor()
    await own(next.page, 'kept on disk', 'sent', 'delivered', 'read').waitFor()
    assert.equal(await message(next.page, 'kept on disk').count(), 1)
    assert.equal(await message(operator.page, 'kept on disk').count(), 1)
  }))

test('of two tabs, what either writes is sent once and shown in both', () =>
  world.withPair(async ({ client, operator, again }) => {
    const second = await again('client', client.context)
    await message(second.page, 'Your booking request has been received').waitFor()
    await send(second.page, 'from the second tab')
    await send(client.page, 'from the first tab')
    for (const { page } of [client, second, operator]) {
      for (const text of ['from the first tab', 'from the second tab']) {
        await message(page, text).waitFor()
        assert.equal(await message(page, text).count(), 1)
      }
    }
    const sent = [...client.requests, ...second.requests].filter(({ url }) => url.endsWith('/api/messages'))
    assert.equal(sent.length, 2)
    await client.page.close()
    await send(second.page, 'alone')
    await message(operator.page, 'alone').waitFor()
  }))

test('a server that is killed in the middle of a conversation is waited for, and nothing is lost', () =>
  world.withPair(async ({ client, operator }) => {
    await send(client.page, 'before')
    await message(operator.page, 'before').waitFor()
    await world.server.kill()
    await send(client.page, 'client while it is gone')
    await send(operator.page, 'operator while it is gone')
    await own(client.page, 'client while it is gone', 'sending').waitFor()
    await client.page.locator('.pgr-banner').waitFor()
    await world.server.start()
    await message(operator.page, 'client while it is gone').waitFor({ timeout: 60_000 })
    await message(client.page, 'operator while it is gone').waitFor({ timeout: 60_000 })
    await send(client.page, 'after')
    await message(operator.page, 'after').waitFor()
    assert.equal(await client.page.locator('[data-status=failed]').count(), 0)
    const order = await texts(client.page)
    assert.deepEqual(await texts(operator.page), order)
    assert.equal(order.length, 5)
  }))

test('a row that somebody inserts while the server is gone is told when it is back', () =>
  world.withPair(async ({ client, booking }) => {
    await world.server.stop()
    await world.server.query(`insert into public.messages (booking_id, sender_role, content) values ($1, 'operator', 'by hand')`, [booking.id])
    await world.server.start()
    await message(client.page, 'by hand').waitFor({ timeout: 60_000 })
    assert.equal(await message(client.page, 'by hand').count(), 1)
  }))

test('a token that runs out pauses what is unsent; a new one lets it go', () =>
  world.withPair(
    async ({ client, operator, clientToken }) => {
      await client.page.getByText('Sign in to continue').waitFor({ timeout: 60_000 })
      await send(client.page, 'written signed out')
      await client.page.getByText('Waiting for you to sign in').waitFor()
      await message(client.page, 'Your booking request has been received').waitFor()
      await send(operator.page, 'answered meanwhile')
      await client.page.evaluate((token) => (location.hash = `#token=${token}`), clientToken())
      await message(operator.page, 'written signed out').waitFor()
      await message(client.page, 'answered meanwhile').waitFor()
      await client.page.getByText('Sign in to continue').waitFor({ state: 'detached' })
      assert.equal(await message(operator.page, 'written signed out').count(), 1)
      assert.equal(new URL(client.page.url()).hash, '')
    },
    { seconds: 8 },
  ))
