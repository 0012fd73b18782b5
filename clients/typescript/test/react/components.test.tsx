import { act, useState } from 'react'
import { renderToString } from 'react-dom/server'
import { describe, expect, it, vi } from 'vitest'

import type { ChatMessage } from '../../src/chat'
import {
  ChatOfflineBanner,
  Composer,
  ConnectionStatus,
  de,
  en,
  MessageDeliveryIndicator,
  MessageList,
  PendingMessagesBanner,
  StatusBadge,
  StatusStepper,
  TextProvider,
} from '../../src/ui'
import { mount } from './harness'

const message = (seq: number, more: Partial<ChatMessage> = {}): ChatMessage => ({
  id: `m${seq}`,
  message_id: `row-${seq}`,
  booking_id: 'b',
  seq,
  content: `text ${seq}`,
  message: `text ${seq}`,
  sender_role: 'operator',
  sender_type: 'operator',
  sender_id: 'o',
  message_type: 'text',
  metadata: {},
  created_at: new Date().toISOString(),
  deleted_at: null,
  isOwn: false,
  retry_count: 0,
  ...more,
})

const own = (seq: number, more: Partial<ChatMessage>) =>
  message(seq, { isOwn: true, sender_role: 'client', sender_type: 'client', sender_id: 'c', ...more })

describe('the status components', () => {
  it.each([
    ['connected', 'Connected'],
    ['connecting', 'Connecting…'],
    ['reconnecting', 'Reconnecting…'],
    ['disconnected', 'DisconnectedRetry'],
  ] as const)('say that the connection is %s', async (status, text) => {
    const { container, ready } = mount(<ConnectionStatus status={status} pendingCount={0} onRetry={() => {}} />)
    await ready
    expect(container.textContent).toBe(text)
    expect(container.querySelector('[role=status]')?.getAttribute('data-status')).toBe(status)
  })

  it.each([
    ['sending', 'Sending…', false],
    ['sent', 'Sent', false],
    ['delivered', 'Delivered', false],
    ['read', 'Read', false],
    ['failed', 'Not sent', true],
  ] as const)('show a message that is %s in words too', async (status, text, canRetry) => {
    const retry = vi.fn()
    const { container, ready } = mount(<MessageDeliveryIndicator status={status} retryCount={0} onRetry={retry} />)
    await ready
    expect(container.textContent).toContain(text)
    const button = container.querySelector('button')
    expect(button !== null).toBe(canRetry)
    button?.click()
    expect(retry).toHaveBeenCalledTimes(canRetry ? 1 : 0)
  })

  it('say how often a message was tried, and what it waits for', () => {
    expect(renderToString(<MessageDeliveryIndicator status="sending" retryCount={2} />)).toContain('Trying again (2 of 3)')
    expect(renderToString(<MessageDeliveryIndicator status="sending" waiting="network" />)).toContain('Waiting for network')
  })

  it('offer no retry of what was refused for good', () => {
    const failure = { kind: 'rejected', code: 'booking_closed', message: 'x', retryable: false } as const
    const html = renderToString(<MessageDeliveryIndicator status="failed" failure={failure} onRetry={() => {}} />)
    expect(html).toContain('This chat is closed.')
    expect(html).not.toContain('Retry')
  })

  it('count unsent messages, and are nothing at all at 0', () => {
    expect(renderToString(<PendingMessagesBanner count={0} onRetry={() => {}} />)).toBe('')
    expect(renderToString(<PendingMessagesBanner count={1} />)).toContain('1 message pending')
    expect(renderToString(<PendingMessagesBanner count={3} />)).toContain('3 messages pending')
  })

  it('have soft and hard words for being offline', () => {
    expect(renderToString(<ChatOfflineBanner />)).toContain('Messages will be sent when you&#x27;re back.')
    expect(renderToString(<ChatOfflineBanner strict />)).toContain('Connection lost. Messages may not be delivered.')
  })

  it('give a status as a word, known or not', () => {
    expect(renderToString(<StatusBadge status="accepted" />)).toContain('Accepted')
    expect(renderToString(<StatusBadge status="rescheduled" />)).toContain('rescheduled')
    expect(renderToString(<StatusBadge status="" />)).toBe('')
    expect(renderToString(<StatusStepper status="accepted" />)).toContain('aria-current="step"')
  })
})

describe('the list of messages', () => {
  it('names each message by author, time and state, and marks days and what is unread', async () => {
    const yesterday = new Date(Date.now() - 86_400_000).toISOString()
    const messages = [message(1, { created_at: yesterday }), own(2, { delivery_status: 'delivered' }), message(3), message(4)]
    const { container, ready } = mount(<MessageList messages={messages} readSeq={2} />)
    await ready
    const separators = [...container.querySelectorAll('.pgr-separator')].map(({ textContent }) => textContent)
    expect(separators).toEqual(['Yesterday', 'Today', '2 new messages'])
    const names = [...container.querySelectorAll('[role=article]')].map((row) => row.getAttribute('aria-label'))
    expect(names[1]).toMatch(/^You, .*, Delivered$/)
    expect(names[2]).toMatch(/^Team, /)
    expect(container.querySelector('[role=log]')?.getAttribute('aria-live')).toBe('off')
  })

  it('offers retry, edit and delete of a failed message', async () => {
    const failure = { kind: 'server', code: 'timeout', message: 'x', retryable: true } as const
    const failed = own(1, { seq: null, message_id: null, delivery_status: 'failed', failure })
    const done: string[] = []
    const { container, ready } = mount(
      <MessageList
        messages={[failed]}
        onRetry={(id) => done.push(`retry ${id}`)}
        onEdit={({ id }) => done.push(`edit ${id}`)}
        onDiscard={(id) => done.push(`discard ${id}`)}
      />,
    )
    await ready
    for (const button of container.querySelectorAll<HTMLElement>('.pgr-foot button')) button.click()
    expect(done).toEqual(['retry m1', 'edit m1', 'discard m1'])
    expect(container.textContent).toContain("The server didn't answer.")
  })

  it('is walked through with the arrow keys', async () => {
    const { container, ready } = mount(<MessageList messages={[message(1), message(2), message(3)]} />)
    await ready
    const rows = [...container.querySelectorAll<HTMLElement>('[data-row]')]
    const press = (key: string) => document.activeElement!.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))
    rows[2]!.focus()
    await act(async () => void press('ArrowUp'))
    expect(document.activeElement).toBe(rows[1])
    await act(async () => void press('Home'))
    expect(document.activeElement).toBe(rows[0])
  })

  it('shows text as text, and what was deleted as deleted', () => {
    const html = renderToString(<MessageList messages={[message(1, { content: '<b>x</b>' }), message(2, { content: '', deleted_at: 'x' })]} />)
    expect(html).toContain('&lt;b&gt;x&lt;/b&gt;')
    expect(html).toContain('Message deleted')
  })
})

describe('the composer', () => {
  async function type(container: HTMLElement, text: string, key = 'Enter', more: KeyboardEventInit = {}) {
    const field = container.querySelector('textarea')!
    await act(async () => {
      Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value')!.set!.call(field, text)
      field.dispatchEvent(new Event('input', { bubbles: true }))
    })
    await act(async () => void field.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, ...more })))
    return field
  }

  it('sends with Enter, trimmed and once, and is empty at once', async () => {
    const sent: string[] = []
    const { container, ready } = mount(<Composer onSend={async (text) => void sent.push(text)} />)
    await ready
    const field = await type(container, '  Hello ')
    expect(sent).toEqual(['Hello'])
    expect(field.value).toBe('')
    await type(container, '   ')
    await type(container, 'line', 'Enter', { shiftKey: true })
    await type(container, 'composing', 'Enter', { isComposing: true })
    expect(sent).toEqual(['Hello'])
  })

  it('gives the text back when it cannot be sent, with the reason', async () => {
    const { container, ready } = mount(<Composer onSend={() => Promise.reject(new Error('This chat is closed.'))} />)
    await ready
    const field = await type(container, 'Hello')
    expect(field.value).toBe('Hello')
    expect(container.querySelector('[role=alert]')?.textContent).toBe('This chat is closed.')
  })

  it('keeps what was begun for each conversation', async () => {
    let open!: (booking: string) => void
    function Two() {
      const [key, setKey] = useState('a')
      open = setKey
      return <Composer draftKey={key} onSend={async () => {}} />
    }
    const { container, ready } = mount(<Two />)
    await ready
    const field = await type(container, 'begun', 'a')
    await act(async () => open('b'))
    expect(field.value).toBe('')
    await act(async () => open('a'))
    expect(field.value).toBe('begun')
  })
})

describe('languages', () => {
  it('have the same texts, and none is missing', () => {
    const shape = (texts: object): unknown =>
      Object.fromEntries(Object.entries(texts).map(([key, value]) => [key, typeof value === 'object' ? shape(value) : typeof value]))
    expect(shape(de)).toEqual(shape(en))
  })

  it('are chosen by the page', () => {
    const html = renderToString(
      <TextProvider texts={de}>
        <ConnectionStatus status="reconnecting" pendingCount={2} />
      </TextProvider>,
    )
    expect(html).toContain('2 Nachrichten warten')
  })
})
