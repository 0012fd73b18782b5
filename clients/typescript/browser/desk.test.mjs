/** What operators do at their desk. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'

import { createWorld, message, send } from './world.mjs'

let world
before(async () => {
  world = await createWorld()
})
after(() => world.close())

/** The desk of a colleague, with the same booking open. */
async function openColleague({ booking }) {
  const token = world.server.token({ id: randomUUID(), role: 'operator', name: 'Luis' })
  const colleague = await world.open(`${world.server.url}/desk?booking=${booking.id}#token=${token}`)
  await message(colleague.page, 'Your booking request has been received').waitFor()
  return colleague
}

test('the queue shows who waits, and moves on when they are answered', () =>
  world.withPair(async ({ client, operator, booking }) => {
    const row = operator.page.locator('.row').filter({ hasText: 'Ann Archer' }).filter({ hasText: 'waiting' })
    await operator.page.getByRole('searchbox').fill(booking.code)
    await operator.page.locator('.row').first().waitFor()
    await send(client.page, 'Is anybody there?')
    await row.filter({ hasText: 'Is anybody there?' }).waitFor()
    await send(operator.page, 'Yes')
    await operator.page.locator('.row').filter({ hasText: 'You: Yes' }).waitFor()
    assert.equal(await row.count(), 0)
  }))

test('a booking that a colleague has taken is not taken twice, and the refusal says who', () =>
  world.withPair(async (pair) => {
    const { operator } = pair
    const colleague = await openColleague(pair)
    await colleague.page.locator('body').press('Escape')
    await colleague.page.keyboard.press('Escape')
    await colleague.page.keyboard.press('a')
    await operator.page.getByText('Luis', { exact: true }).waitFor()
    await operator.page.keyboard.press('Escape')
    await operator.page.keyboard.press('a')
    await operator.page.getByText('Already taken by Luis.').waitFor()
    await operator.page.keyboard.press('Control+k')
    await operator.page.getByRole('combobox', { name: 'What do you want to do?' }).fill('take over')
    await operator.page.keyboard.press('Enter')
    await operator.page.locator('.details').getByText('Dana', { exact: true }).waitFor()
    await colleague.context.close()
  }))

test('of two operators who decide at once, the slower one is told who was faster', () =>
  world.withPair(async (pair) => {
    const { operator, client } = pair
    const colleague = await openColleague(pair)
    for (const { page } of [operator, colleague]) await page.getByRole('button', { name: 'Accept Booking' }).click()
    // The colleague's desk has not heard yet when it decides.
    await colleague.page.route('**/api/bookings/status', async (route) => {
      await operator.page.getByRole('button', { name: 'Confirm' }).click()
      await message(operator.page, 'Your booking has been accepted by our team').waitFor()
      await route.continue()
    })
    await colleague.page.getByRole('button', { name: 'Confirm' }).click()
    await colleague.page.getByText(/^Already Accepted by Dana, /).waitFor()
    await message(client.page, 'Your booking has been accepted by our team').waitFor()
    assert.equal(await message(client.page, 'Your booking has been accepted by our team').count(), 1)
    await colleague.context.close()
  }))

test('a note stays with the team, on the wire too', () =>
  world.withPair(async ({ client, operator }) => {
    const received = []
    client.page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => received.push(String(payload))))
    await client.page.reload()
    await message(client.page, 'Your booking request has been received').waitFor()
    await operator.page.getByRole('button', { name: 'Note', exact: true }).click()
    await send(operator.page, 'A difficult client')
    await message(operator.page, 'A difficult client').waitFor()
    await operator.page.getByRole('button', { name: 'Reply', exact: true }).click()
    await send(operator.page, 'Good evening')
    await message(client.page, 'Good evening').waitFor()
    assert.equal(await message(client.page, 'A difficult client').count(), 0)
    assert.ok(received.some((frame) => frame.includes('Good evening')))
    assert.ok(!received.some((frame) => frame.includes('A difficult client')))
  }))

test('a closed chat takes no more text, and says so', () =>
  world.withPair(async ({ client, operator }) => {
    await operator.page.keyboard.press('Control+k')
    await operator.page.getByRole('combobox', { name: 'What do you want to do?' }).fill('close the')
    await operator.page.keyboard.press('Enter')
    await client.page.locator('textarea:disabled').waitFor()
    await operator.page.keyboard.press('Control+k')
    await operator.page.getByRole('combobox', { name: 'What do you want to do?' }).fill('reopen')
    await operator.page.keyboard.press('Enter')
    await client.page.locator('textarea:enabled').waitFor()
  }))

test('a desk without the right to be one says so', async () => {
  const token = world.server.token({ id: randomUUID(), role: 'client', name: 'Ann' })
  const { page, context } = await world.open(`${world.server.url}/desk#token=${token}`)
  await page.locator('.queue .hint').waitFor()
  assert.doesNotMatch(await page.locator('.queue .hint').innerText(), /All answered/)
  await context.close()
})
