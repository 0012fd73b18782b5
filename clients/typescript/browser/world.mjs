/**
 * What the browser tests run against: a relay named by RELAY_URL, with DATABASE_URL (where bookings are opened by psql) and
 * PGRELAY_JWT_SECRET (tokens are made here); without RELAY_URL, pgrelay in memory.
 */
import { execFileSync } from 'node:child_process'
import { createHmac, randomUUID } from 'node:crypto'

import { chromium } from 'playwright-core'

import { fakeToken } from '../dist/testing.mjs'
import { startMockServer } from './mock-server.mjs'
import { startProxy } from './proxy.mjs'

const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const OPERATOR = { id: randomUUID(), role: 'operator', name: 'Dana' }
/** What a browser says by itself when a request meets a network that was cut on purpose, or a refusal. */
const NETWORK = /^Failed to load resource: |^WebSocket connection to /

function setting(name) {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set, though RELAY_URL is`)
  return value
}

function signToken({ id, role, name }, seconds = 3_600) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const exp = Math.floor(Date.now() / 1000) + seconds
  const claims = { sub: id, role: 'authenticated', aud: 'authenticated', exp, user_metadata: { name } }
  if (role === 'operator') claims.app_metadata = { chat_role: 'operator' }
  const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${body}.${createHmac('sha256', setting('PGRELAY_JWT_SECRET')).update(body).digest('base64url')}`
}

function runSql(sql) {
  return execFileSync('psql', ['-X', '-At', '-v', 'ON_ERROR_STOP=1', '-c', sql, setting('DATABASE_URL')], { encoding: 'utf8' }).trim()
}

async function startBackend() {
  if (process.env.RELAY_URL) {
    return {
      url: process.env.RELAY_URL,
      token: signToken,
      openBooking(code, client) {
        const id = runSql(`insert into public.bookings (code, client_id) values ('${code}', '${client}') returning id`).split('\n')[0]
        return { id, code }
      },
      close: async () => {},
    }
  }
  const server = await startMockServer()
  return {
    url: server.url,
    token: (user, seconds = 3_600) => fakeToken(user, Date.now() + seconds * 1000),
    openBooking: (code, client) => server.relay.database.openBooking(code, client, 'Ann'),
    close: () => server.close(),
  }
}

/** A backend behind a proxy and a browser; `pair` opens a booking with its client and an operator. */
export async function createWorld() {
  const backend = await startBackend()
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS })
  let count = 0

  async function open(path, proxy, context) {
    const own = context ?? (await browser.newContext({ locale: 'en-GB' }))
    const page = await own.newPage()
    const errors = []
    const requests = []
    page.on('console', (message) => message.type() === 'error' && !NETWORK.test(message.text()) && errors.push(message.text()))
    page.on('pageerror', (error) => errors.push(error.message))
    page.on('request', (request) => request.method() !== 'GET' && requests.push({ url: request.url(), body: request.postDataJSON() }))
    await page.goto(proxy.url + path)
    return { page, context: own, errors, requests }
  }

  /** Both sides of a new booking, each behind a proxy of its own. `query` is added to both addresses. */
  async function pair(query = '') {
    const client = { id: randomUUID(), role: 'client', name: 'Ann' }
    const booking = backend.openBooking(`REQ${Date.now()}${++count}`, client.id)
    const proxies = { client: await startProxy(backend.url), operator: await startProxy(backend.url) }
    const paths = {
      client: `/chat?booking=${booking.code}${query}#token=${backend.token(client)}`,
      operator: `/desk?booking=${booking.id}${query}#token=${backend.token(OPERATOR)}`,
    }
    const clientSide = await open(paths.client, proxies.client)
    const operatorSide = await open(paths.operator, proxies.operator)
    await message(clientSide.page, 'Your booking request has been received').waitFor()
    await message(operatorSide.page, 'Your booking request has been received').waitFor()
    return {
      booking,
      proxies,
      paths,
      client: clientSide,
      operator: operatorSide,
      again: (side, context) => open(paths[side], proxies[side], context),
      async close() {
        await Promise.all([clientSide.context.close(), operatorSide.context.close()])
        await Promise.all(Object.values(proxies).map((proxy) => proxy.close()))
      },
    }
  }

  return {
    pair,
    async close() {
      await browser.close()
      await backend.close()
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

/** Waits until an own message says that it has come this far. */
export function delivery(page, text, status) {
  return page.locator(`[role=article][data-own]${status ? `[data-status=${status}]` : ''}`).filter({ hasText: text }).waitFor()
}

/** The texts of the conversation, in order. */
export function texts(page) {
  return page.locator('[role=article] .pgr-bubble').allInnerTexts()
}
