/** What the browser tests run in: the real server behind proxies that cut, and Chromium. */
import { randomUUID } from 'node:crypto'

import { chromium } from 'playwright-core'

import { startProxy } from './proxy.mjs'
import { startServer } from './server.mjs'

export const BROWSER = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
}
const OPERATOR = { id: randomUUID(), role: 'operator', name: 'Dana' }
/** What a browser says by itself when a request meets a network that was cut on purpose, or a refusal. */
const NETWORK = /^Failed to load resource: |^WebSocket connection to /
/** How long a test waits for anything that is not slow on purpose, in milliseconds. */
const DEADLINE_MS = 20_000

/** A server and a browser; `pair` opens a booking with its client and an operator. */
export async function createWorld() {
  const server = await startServer()
  const browser = await chromium.launch(BROWSER)
  let count = 0

  async function open(url, context) {
    const own = context ?? (await browser.newContext({ locale: 'en-GB' }))
    const page = await own.newPage()
    page.setDefaultTimeout(DEADLINE_MS)
    const errors = []
    const requests = []
    page.on('console', (message) => message.type() === 'error' && !NETWORK.test(message.text()) && errors.push(message.text()))
    page.on('pageerror', (error) => errors.push(error.message))
    page.on('request', (request) => request.method() !== 'GET' && requests.push({ url: request.url(), body: request.postDataJSON() }))
    await page.goto(url)
    return { page, context: own, errors, requests }
  }

  /** Both sides of a new booking, each behind a proxy of its own. `query` is added to both addresses; tokens last `seconds`. */
  async function pair({ query = '', seconds } = {}) {
    const client = { id: randomUUID(), role: 'client', name: 'Ann Archer' }
    const booking = await server.openBooking(`REQ${Date.now()}${++count}`, client.id, client.name)
    const proxies = { client: await startProxy(server.url), operator: await startProxy(server.url) }
    const paths = {
      client: `/chat?booking=${booking.code}${query}#token=${server.token(client, seconds)}`,
      operator: `/desk?booking=${booking.id}${query}#token=${server.token(OPERATOR)}`,
    }
    const both = Object.fromEntries(
      await Promise.all(Object.entries(paths).map(async ([side, path]) => [side, await open(proxies[side].url + path)])),
    )
    for (const { page } of Object.values(both)) await message(page, 'Your booking request has been received').waitFor()
    return {
      ...both,
      booking,
      proxies,
      /** Another page of one side. */
      again: (side, context) => open(proxies[side].url + paths[side], context),
      /** A token for the client that has just been made. */
      clientToken: () => server.token(client),
      async close() {
        await Promise.all(Object.values(both).map(({ context }) => context.close()))
        await Promise.all(Object.values(proxies).map((proxy) => proxy.close()))
      },
    }
  }

  return {
    server,
    open,
    pair,
    /** Runs with both sides of a booking; afterwards neither console may have said anything. */
    async withPair(run, options) {
      const both = await pair(options)
      try {
        await run(both)
        for (const side of ['client', 'operator']) {
          const { errors } = both[side]
          if (errors.length) throw new Error(`the console of the ${side} says: ${errors.join(' | ')}`)
        }
      } finally {
        await both.close()
      }
    },
    async close() {
      await browser.close()
      await server.close()
    },
  }
}

/** The bubble with this text. */
export function message(page, text) {
  return page.getByRole('article').filter({ hasText: text })
}

export async function send(page, text) {
  const field = page.getByRole('textbox', { name: 'Write a message' })
  await field.fill(text)
  await field.press('Enter')
}

/** An own message that has come this far. */
export function own(page, text, ...statuses) {
  const state = statuses.length ? `:is(${statuses.map((status) => `[data-status=${status}]`).join()})` : ''
  return page.locator(`[role=article][data-own]${state}`).filter({ hasText: text })
}

/** Waits for what the connection says. */
export function connection(page, status) {
  return page.locator(`.pgr-connection[data-status=${status}]`).first().waitFor({ state: 'attached' })
}

/** The texts of the conversation, in order. */
export function texts(page) {
  return page.locator('[role=article] .pgr-bubble').allInnerTexts()
}
