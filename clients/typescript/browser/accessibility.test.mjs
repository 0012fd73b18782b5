/** Both pages under an accessibility checker, light and dark, on a desk and on a phone. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'

import { createWorld, message, own, send } from './world.mjs'

const checker = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']
const SHAPES = [
  { width: 1280, height: 800 },
  { width: 390, height: 844 },
]

let world
before(async () => {
  world = await createWorld()
})
after(() => world.close())

async function check(page, what) {
  // Through the debugger: a script element would be against the page's policy.
  await page.evaluate(checker)
  for (const viewport of SHAPES) {
    for (const colorScheme of ['light', 'dark']) {
      await page.setViewportSize(viewport)
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
      const { violations } = await page.evaluate((values) => window.axe.run({ runOnly: { type: 'tag', values } }), RULES)
      const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`)
      assert.deepEqual(told, [], `${what}, ${colorScheme}, ${viewport.width} wide`)
    }
  }
}

test('a conversation, with one message that was refused', () =>
  world.withPair(async ({ client, operator }) => {
    await send(client.page, 'Hello')
    await message(operator.page, 'Hello').waitFor()
    await client.page.route('**/api/messages', (route) =>
      route.fulfill({ status: 422, json: { error: { code: 'empty', message: 'Write something first.', retryable: false } } }),
    )
    await send(client.page, 'refused')
    await own(client.page, 'refused', 'failed').waitFor()
    await check(client.page, 'client')
    await check(operator.page, 'desk')
  }))

test('the dialogs and menus of the desk', () =>
  world.withPair(async ({ operator: { page } }) => {
    await page.keyboard.press('Control+k')
    await page.getByRole('combobox', { name: 'What do you want to do?' }).waitFor()
    await check(page, 'commands')
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'Accept Booking' }).click()
    await check(page, 'confirmation')
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.setViewportSize(SHAPES[0])
    await page.locator('summary[aria-label=Settings]').click()
    await check(page, 'settings')
  }))

test('a page that asks for a booking', async () => {
  const token = world.server.token({ id: 'c0000000-0000-4000-8000-000000000001', role: 'client', name: 'Ann' })
  const { page, context } = await world.open(`${world.server.url}/chat?booking=REQ0#token=${token}`)
  await page.getByText("We can't find booking REQ0").waitFor()
  await check(page, 'question')
  await context.close()
})
