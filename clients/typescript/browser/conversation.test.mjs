/** Two people who are both online. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { createWorld, message, own, send, texts } from './world.mjs'

let world
before(async () => {
  world = await createWorld()
})
after(() => world.close())

test('what either side writes appears on the other', () =>
  world.withPair(async ({ client, operator }) => {
    await send(client.page, 'Hello from client')
    await message(operator.page, 'Hello from client').waitFor()
    await send(operator.page, 'Hello from operator')
    await message(client.page, 'Hello from operator').waitFor()
  }))

test('a status shows in badge, steps and chat without a reload, once each', () =>
  world.withPair(async ({ client, operator, booking }) => {
    await client.page.evaluate(() => (window.isSamePage = true))
    await client.page.locator('.pgr-badge').filter({ hasText: 'Pending' }).waitFor()
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
    await client.page.getByRole('button', { name: 'Accepted' }).click()
    await client.page.getByText(/^Accepted: Dana, /).waitFor()
    assert.equal(await client.page.evaluate(() => window.isSamePage), true)
    const told = await world.server.query(
      `select metadata ->> 'status' as status from public.messages where booking_id = $1 and message_type = 'system' order by seq`,
      [booking.id],
    )
    assert.deepEqual(
      told.map(({ status }) => status),
      ['pending', 'accepted', 'deployed'],
    )
  }))

test('a status that psql sets is told as well', () =>
  world.withPair(async ({ client, operator, booking }) => {
    await world.server.query(`update public.bookings set status = 'accepted' where id = $1`, [booking.id])
    for (const { page } of [client, operator]) {
      await page.locator('.pgr-badge').filter({ hasText: 'Accepted' }).first().waitFor()
      await message(page, 'Your booking has been accepted by our team').waitFor()
    }
  }))

test('a message goes from sent to delivered to read, and the rate is told', () =>
  world.withPair(async ({ client, operator }) => {
    await operator.page.evaluate(() => {
      window.states = []
      new MutationObserver(() => {
        const status = document.querySelector('[role=article][data-own]')?.dataset.status
        if (status && window.states.at(-1) !== status) window.states.push(status)
      }).observe(document.body, { subtree: true, childList: true, attributes: true })
    })
    await send(operator.page, 'How can we help?')
    await message(client.page, 'How can we help?').waitFor()
    await own(operator.page, 'How can we help?', 'delivered', 'read').waitFor()
    await client.page.bringToFront()
    await own(operator.page, 'How can we help?', 'read').waitFor()
    const order = ['sending', 'sent', 'delivered', 'read']
    const seen = await operator.page.evaluate(() => window.states)
    assert.deepEqual(seen, order.filter((status) => seen.includes(status)), 'a status never falls back')
    assert.equal(seen[0], 'sending')
    await operator.page.getByText('Delivery rate: 100.0%').waitFor()
  }))

test('simultaneous messages are delivered, in one order on both sides', () =>
  world.withPair(async ({ client, operator }) => {
    const rounds = [1, 2, 3]
    for (const round of rounds) await Promise.all([send(client.page, `client ${round}`), send(operator.page, `operator ${round}`)])
    for (const round of rounds) {
      await message(client.page, `operator ${round}`).waitFor()
      await message(operator.page, `client ${round}`).waitFor()
      await own(client.page, `client ${round}`, 'delivered', 'read').waitFor()
      await own(operator.page, `operator ${round}`, 'delivered', 'read').waitFor()
    }
    const order = await texts(client.page)
    assert.deepEqual(await texts(operator.page), order)
    for (const side of ['client', 'operator']) {
      assert.deepEqual(
        order.filter((text) => text.startsWith(`${side} `)),
        rounds.map((round) => `${side} ${round}`),
      )
    }
  }))

test('everything that is written names the booking by its UUID', () =>
  world.withPair(async ({ client, operator, booking }) => {
    await send(client.page, 'named')
    await message(operator.page, 'named').waitFor()
    await own(client.page, 'named', 'delivered', 'read').waitFor()
    const named = [...client.requests, ...operator.requests].map(({ body }) => body?.bookingId).filter(Boolean)
    assert.ok(named.length > 0)
    assert.deepEqual([...new Set(named)], [booking.id])
  }))

test('who types is told, and who is there', () =>
  world.withPair(async ({ client, operator }) => {
    await client.page.getByText('Team online').waitFor()
    await operator.page.getByText('Client is here').waitFor()
    await operator.page.getByRole('textbox', { name: 'Write a message' }).pressSequentially('On my way')
    await client.page.getByText('Dana is typing…').waitFor()
    await operator.page.keyboard.press('Enter')
    await message(client.page, 'On my way').waitFor()
    await client.page.getByText('Dana is typing…').waitFor({ state: 'detached' })
    await operator.page.close()
    await client.page.getByText('Team online').waitFor({ state: 'detached' })
  }))

test('a code that is nobody’s is answered in words', async () => {
  const token = world.server.token({ id: 'c0000000-0000-4000-8000-000000000001', role: 'client', name: 'Ann' })
  const { page, context, errors } = await world.open(`${world.server.url}/chat?booking=REQ0#token=${token}`)
  await page.getByText("We can't find booking REQ0. Check the code or open it from your e-mail.").waitFor()
  assert.doesNotMatch(await page.locator('body').innerText(), /uuid/i)
  assert.deepEqual(errors, [])
  await context.close()
})
