/** The guides' test procedures in a real browser: `npm run browser`. See world.mjs for what they run against. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { createWorld, delivery, message, send, texts } from './world.mjs'

let world
before(async () => {
  world = await createWorld()
})
after(() => world.close())

/** Runs with both sides of a booking; afterwards neither console may have said anything. */
async function withPair(run, query) {
  const pair = await world.pair(query)
  try {
    await run(pair)
    assert.deepEqual([...pair.client.errors, ...pair.operator.errors], [])
  } finally {
    await pair.close()
  }
}

const status = (page, word) => page.locator(`.pgr-connection[data-status=${word}]`).first().waitFor({ state: 'attached' })

describe('both sides online', () => {
  test('what either side writes appears on the other (S-120, S-138, S-139)', () =>
    withPair(async ({ client, operator }) => {
      await send(client.page, 'Hello from client')
      await message(operator.page, 'Hello from client').waitFor()
      await send(operator.page, 'Hello from operator')
      await message(client.page, 'Hello from operator').waitFor()
    }))

  test('a status shows in badge and chat without a reload, once each (S-121, S-122, S-140, S-141)', () =>
    withPair(async ({ client, operator }) => {
      for (const [action, word, text] of [
        ['Accept Booking', 'Accepted', 'Your booking has been accepted by our team'],
        ['Deploy Team', 'Team deployed', 'deployed'],
      ]) {
        await operator.page.getByRole('button', { name: action }).click()
        await operator.page.getByRole('button', { name: 'Confirm' }).click()
        await client.page.locator('.pgr-badge').filter({ hasText: word }).waitFor()
        await message(client.page, text).waitFor()
        assert.equal(await message(client.page, text).count(), 1)
      }
    }))

  test('a message goes from sent to delivered to read (S-124)', () =>
    withPair(async ({ client, operator }) => {
      await send(operator.page, 'How can we help?')
      await delivery(operator.page, 'How can we help?')
      await message(client.page, 'How can we help?').waitFor()
      await operator.page.locator('[role=article][data-own]:is([data-status=delivered], [data-status=read])').waitFor()
      await operator.page.getByText('Delivery rate: 100.0%').waitFor()
    }))

  test('simultaneous messages are delivered, in one order on both sides (S-127)', () =>
    withPair(async ({ client, operator }) => {
      await Promise.all([send(client.page, 'from client'), send(operator.page, 'from operator')])
      await Promise.all([message(client.page, 'from operator').waitFor(), message(operator.page, 'from client').waitFor()])
      await client.page.locator('[data-own]:is([data-status=delivered], [data-status=read])').filter({ hasText: 'from client' }).waitFor()
      await operator.page.locator('[data-own]:is([data-status=delivered], [data-status=read])').filter({ hasText: 'from operator' }).waitFor()
      assert.deepEqual((await texts(client.page)).slice(1), (await texts(operator.page)).slice(1))
    }))

  test('everything that is written names the booking by its UUID (S-144)', () =>
    withPair(async ({ client, operator, booking }) => {
      await send(client.page, 'named')
      await message(operator.page, 'named').waitFor()
      const named = client.requests.map(({ body }) => body?.bookingId).filter(Boolean)
      assert.ok(named.length > 0)
      assert.deepEqual([...new Set(named)], [booking.id])
    }))
})

describe('a network that goes and comes', () => {
  test('what is written meanwhile says "sending", and is sent by itself (S-123)', () =>
    withPair(async ({ client, operator, proxies }) => {
      await client.context.setOffline(true)
      proxies.client.cut()
      await send(client.page, 'written offline')
      await delivery(client.page, 'written offline', 'sending')
      await client.page.getByText("You're offline").first().waitFor()
      proxies.client.restore()
      await client.context.setOffline(false)
      await message(operator.page, 'written offline').waitFor()
      assert.equal(await message(operator.page, 'written offline').count(), 1)
    }))

  test('with the policy "attempt" it fails after its tries, and a retry sends it (S-125)', () =>
    withPair(async ({ client, operator, proxies }) => {
      await operator.context.setOffline(true)
      proxies.operator.cut()
      await send(operator.page, 'tried offline')
      await delivery(operator.page, 'tried offline', 'failed')
      proxies.operator.restore()
      await operator.context.setOffline(false)
      await status(operator.page, 'connected')
      await message(operator.page, 'tried offline').getByRole('button', { name: 'Retry' }).click()
      await message(client.page, 'tried offline').waitFor()
    }, '&offline=attempt'))

  test('10 s away: disconnected with a banner, then reconnecting, then caught up (S-126, S-142)', () =>
    withPair(async ({ client, operator, proxies }) => {
      await client.page.evaluate(() => {
        const element = document.querySelector('.pgr-connection')
        window.seen = []
        new MutationObserver(() => window.seen.push(element.dataset.status)).observe(element, { attributeFilter: ['data-status'] })
      })
      await client.context.setOffline(true)
      proxies.client.cut()
      await status(client.page, 'disconnected')
      await client.page.getByText("You're offline").first().waitFor()
      await send(operator.page, 'missed')
      await client.page.waitForTimeout(10_000)
      await client.context.setOffline(false)
      await client.page.waitForTimeout(2_500)
      proxies.client.restore()
      await message(client.page, 'missed').waitFor()
      await status(client.page, 'connected')
      assert.deepEqual(await client.page.evaluate(() => window.seen), ['disconnected', 'reconnecting', 'connected'])
      assert.equal(await message(client.page, 'missed').count(), 1)
    }))

  test('a drop that heals at once loses nothing', () =>
    withPair(async ({ client, operator, proxies }) => {
      for (let round = 0; round < 3; round++) {
        proxies.client.drop()
        await send(operator.page, `round ${round}`)
        await message(client.page, `round ${round}`).waitFor()
      }
      assert.deepEqual((await texts(client.page)).slice(1), ['round 0', 'round 1', 'round 2'])
    }))

  test('a server that is gone for a while: both sides come back, and nothing has failed', () =>
    withPair(async ({ client, operator, proxies }) => {
      for (const proxy of Object.values(proxies)) proxy.cut()
      await send(client.page, 'while it was gone')
      await delivery(client.page, 'while it was gone', 'sending')
      await client.page.waitForTimeout(12_000)
      for (const proxy of Object.values(proxies)) proxy.restore()
      await message(operator.page, 'while it was gone').waitFor({ timeout: 60_000 })
      assert.equal(await client.page.locator('[data-status=failed]').count(), 0)
    }))

  test('a connection that stands and carries nothing is noticed', () =>
    withPair(async ({ client, operator, proxies }) => {
      proxies.client.stall()
      await send(operator.page, 'through a stalled line')
      await client.page.locator('.pgr-banner').waitFor({ timeout: 60_000 })
      proxies.client.restore()
      proxies.client.drop()
      await message(client.page, 'through a stalled line').waitFor({ timeout: 60_000 })
    }))
})

describe('a page that goes', () => {
  test('leaves its unsent messages to the next one', () =>
    withPair(async ({ client, operator, proxies, again }) => {
      await client.context.setOffline(true)
      await send(client.page, 'kept on disk')
      await delivery(client.page, 'kept on disk', 'sending')
      await client.page.waitForTimeout(500)
      await client.page.close()
      await client.context.setOffline(false)
      proxies.client.restore()
      const next = await again('client', client.context)
      await message(operator.page, 'kept on disk').waitFor()
      await message(next.page, 'kept on disk').waitFor()
      assert.equal(await message(next.page, 'kept on disk').count(), 1)
    }))

  test('is one of two tabs: what either writes is sent once, and shown in both', () =>
    withPair(async ({ client, operator, again }) => {
      const second = await again('client', client.context)
      await message(second.page, 'Your booking request has been received').waitFor()
      await send(second.page, 'from the second tab')
      await send(client.page, 'from the first tab')
      for (const page of [client.page, second.page, operator.page]) {
        for (const text of ['from the first tab', 'from the second tab']) {
          await message(page, text).waitFor()
          assert.equal(await message(page, text).count(), 1)
        }
      }
      await client.page.close()
      await send(second.page, 'alone')
      await message(operator.page, 'alone').waitFor()
    }))
})
