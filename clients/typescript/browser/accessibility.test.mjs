/** Both pages under an accessibility checker, light and dark. */
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'

import { createWorld, message, send } from './world.mjs'

const checker = createRequire(import.meta.url).resolve('axe-core')
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']

let world
before(async () => {
  world = await createWorld()
})
after(() => world.close())

for (const side of ['client', 'operator']) {
  test(`the ${side}'s page has no fault`, async () => {
    const pair = await world.pair()
    const { page } = pair[side]
    await send(pair.client.page, 'Hello')
    await message(pair.operator.page, 'Hello').waitFor()
    await page.addScriptTag({ path: checker })
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
      const { violations } = await page.evaluate((values) => window.axe.run({ runOnly: { type: 'tag', values } }), RULES)
      const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`)
      assert.deepEqual(told, [], colorScheme)
    }
    await pair.close()
  })
}
