/** A network that goes, stalls, and comes back. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { connection, createWorld, message, own, send, texts } from './world.mjs'

let world
before(async () => {
  world = await createWorld()
})
after(() => world.close())

/** Away for a person who waits for a lift, and more than long enough for every banner. */
const AWAY_MS = 10_000

async function goOffline({ context }, proxy) {
  await context.setOffline(true)
  // The switch leaves open WebSockets as they are.
  proxy.cut()
}

async function comeBack({ context }, proxy) {
  proxy.restore()
  await context.setOffline(false)
}

test('what is written offline says "sending", and is sent by itself', () =>
  world.withPair(async ({ client, operator, proxies }) => {
    await goOffline(client, proxies.client)
    await send(client.page, 'written offline')
    await own(client.page, 'written offline', 'sending').waitFor()
    await client.page.getByText("You're offline").first().waitFor()
    await comeBack(client, proxies.client)
    await message(operator.page, 'written offline').waitFor()
    assert.equal(await message(operator.page, 'written offline').count(), 1)
  }))

test('with the policy "attempt" it fails after its tries, and a retry sends it', () =>
  world.withPair(
    async ({ client, operator, proxies }) => {
      await goOffline(operator, proxies.operator)
      await send(operator.page, 'tried offline')
      await own(operator.page, 'tried offline', 'sending').waitFor()
      await own(operator.page, 'tried offline', 'failed').waitFor()
      await comeBack(operator, proxies.operator)
      await connection(operator.page, 'connected')
      await own(operator.page, 'tried offline', 'failed').getByRole('button', { name: 'Retry' }).click()
      await message(client.page, 'tried offline').waitFor()
      assert.equal(await message(client.page, 'tried offline').count(), 1)
    },
    { query: '&offline=attempt' },
  ))

test('10 s away: disconnected with a banner, then reconnecting, then connected and caught up', () =>
  world.withPair(async ({ client, operator, proxies }) => {
    await connection(client.page, 'connected')
    await client.page.evaluate(() => {
      const element = document.querySelector('.pgr-connection')
      window.seen = []
      new MutationObserver(() => window.seen.push(element.dataset.status)).observe(element, { attributeFilter: ['data-status'] })
    })
    await goOffline(client, proxies.client)
    await connection(client.page, 'disconnected')
    await client.page.getByText("You're offline").first().waitFor()
    await send(operator.page, 'missed')
    await client.page.waitForTimeout(AWAY_MS)
    // The device has a network again before the server can be reached.
    await client.context.setOffline(false)
    await connection(client.page, 'reconnecting')
    proxies.client.restore()
    await message(client.page, 'missed').waitFor()
    await connection(client.page, 'connected')
    assert.deepEqual(await client.page.evaluate(() => window.seen), ['disconnected', 'reconnecting', 'connected'])
    assert.equal(await message(client.page, 'missed').count(), 1)
  }))

test('a drop that heals at once loses nothing', () =>
  world.withPair(async ({ client, operator, proxies }) => {
    for (let round = 0; round < 3; round++) {
      proxies.client.drop()
      await send(operator.page, `round ${round}`)
      await message(client.page, `round ${round}`).waitFor()
    }
    assert.deepEqual((await texts(client.page)).slice(1), ['round 0', 'round 1', 'round 2'])
  }))

test('a connection that stands and carries nothing is noticed', () =>
  world.withPair(async ({ client, operator, proxies }) => {
    proxies.client.stall()
    await send(operator.page, 'through a stalled line')
    await client.page.locator('.pgr-banner').waitFor({ timeout: 60_000 })
    // What was stalled is dead; new connections work.
    proxies.client.drop()
    proxies.client.restore()
    await message(client.page, 'through a stalled line').waitFor({ timeout: 60_000 })
    assert.equal(await message(client.page, 'through a stalled line').count(), 1)
  }))

test('where WebSockets are blocked, changes come over event streams, and go back by themselves', () =>
  world.withPair(async ({ client, operator, proxies }) => {
    proxies.client.block('websocket')
    await client.page.getByText('Diagnostics').click()
    await client.page.getByText(/transport sse/).waitFor({ timeout: 60_000 })
    await send(operator.page, 'streamed')
    await message(client.page, 'streamed').waitFor()
    proxies.client.restore()
    await client.page.getByText(/transport ws/).waitFor({ timeout: 60_000 })
    await send(operator.page, 'live again')
    await message(client.page, 'live again').waitFor()
    assert.deepEqual((await texts(client.page)).slice(1), ['streamed', 'live again'])
  }))

test('where event streams are blocked too, the page asks every few seconds and says so', () =>
  world.withPair(async ({ client, operator, proxies }) => {
    proxies.client.block('websocket', 'events')
    await client.page.getByText('Live updates are blocked on this network').waitFor({ timeout: 60_000 })
    await send(operator.page, 'polled')
    await message(client.page, 'polled').waitFor()
    await send(client.page, 'answered')
    await message(operator.page, 'answered').waitFor()
    proxies.client.restore()
    await client.page.getByText('Live updates are blocked on this network').waitFor({ state: 'detached', timeout: 60_000 })
    assert.equal(await message(client.page, 'polled').count(), 1)
  }))
