/** Draws both pages in their main states into a folder, to be looked at: `npm run screenshots -- <folder>`. */
import { mkdir } from 'node:fs/promises'

import { chromium } from 'playwright-core'

import { CLIENT, OPERATOR, pageUrls, startMockServer } from './mock-server.mjs'

const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const FOLDER = process.argv[2] ?? 'screenshots'

const SHAPES = {
  'desktop-light': { viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
  'desktop-dark': { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
  'phone-light': { viewport: { width: 390, height: 844 }, colorScheme: 'light', isMobile: true, hasTouch: true },
  'phone-dark': { viewport: { width: 390, height: 844 }, colorScheme: 'dark', isMobile: true, hasTouch: true },
}

function converse(server) {
  const { database } = server.relay
  const booking = database.openBooking('REQ1759286674249', CLIENT.id, CLIENT.name)
  const other = database.openBooking('REQ1759286674250', 'c2', 'Ben Baker')
  database.addMessage(other, { content: 'Is anybody there?', sender_id: 'c2' })
  database.openBooking('REQ1759286674251', 'c3', null)
  const say = (content) => database.addMessage(booking, { content, sender_id: CLIENT.id })
  const answer = (content) => database.addMessage(booking, { content, sender_role: 'operator', sender_id: OPERATOR.id })
  say('Hello, is my booking confirmed?')
  answer('Hello Ann, we are looking at it right now.')
  answer('One moment please.')
  database.setStatus(booking, 'accepted', OPERATOR)
  say('Thank you! 🎉')
  say('When will the team arrive? We need to plan the evening, and the building closes its gate at ten, so somebody would have to meet you there.')
  database.acknowledge(booking, OPERATOR, 5, 4)
  return booking
}

async function shoot(page, name) {
  await page.waitForTimeout(400)
  await page.screenshot({ path: `${FOLDER}/${name}.png` })
}

async function open(browser, shape, url) {
  const context = await browser.newContext({ ...shape, locale: 'en-GB' })
  const page = await context.newPage()
  page.on('console', (message) => message.type() === 'error' && console.error(`console: ${message.text()}`))
  page.on('pageerror', (error) => console.error(`page: ${error.message}`))
  await page.goto(url)
  return page
}

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS })
await mkdir(FOLDER, { recursive: true })
for (const [shape, options] of Object.entries(SHAPES)) {
  const server = await startMockServer()
  const booking = converse(server)
  const urls = pageUrls(server.url, booking.code)
  const chat = await open(browser, options, urls.chat)
  await chat.getByText('Thank you!').waitFor()
  const desk = await open(browser, options, urls.desk)
  await desk.getByText('Thank you!').first().waitFor()
  await shoot(desk, `desk-${shape}`)
  await shoot(chat, `chat-${shape}`)
  server.relay.faults.refuseMessages = [422]
  await chat.getByRole('textbox').fill('This one is refused')
  await chat.keyboard.press('Enter')
  await chat.getByText('Not sent', { exact: true }).waitFor()
  await chat.context().setOffline(true)
  await chat.getByRole('textbox').fill('Written without a network')
  await chat.keyboard.press('Enter')
  await chat.getByText('Waiting for network', { exact: true }).waitFor()
  await shoot(chat, `chat-offline-${shape}`)
  if (shape.startsWith('phone')) {
    await desk.getByRole('button', { name: 'Queue' }).click()
    await shoot(desk, `desk-queue-${shape}`)
    await desk.getByRole('button', { name: 'Details' }).click()
    await shoot(desk, `desk-details-${shape}`)
  } else {
    await desk.getByRole('button', { name: 'Deploy Team' }).click()
    await shoot(desk, `desk-confirm-${shape}`)
    await desk.getByRole('button', { name: 'Cancel' }).click()
    await desk.getByRole('button', { name: 'Note', exact: true }).click()
    await desk.getByRole('textbox', { name: 'Write a message' }).fill('Client is in a hurry')
    await desk.keyboard.press('Enter')
    await shoot(desk, `desk-note-${shape}`)
  }
  const lost = await open(browser, options, pageUrls(server.url, 'REQ0').chat)
  await lost.getByRole('heading').waitFor()
  await shoot(lost, `chat-not-found-${shape}`)
  await Promise.all([chat, desk, lost].map((page) => page.context().close()))
  await server.close()
}
await browser.close()
