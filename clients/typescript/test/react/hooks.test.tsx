import { act, useState, version } from 'react'
import { renderToString } from 'react-dom/server'
import { describe, expect, it, onTestFinished } from 'vitest'

import { useChatWithDelivery, useRealtimeChat, type UseChatResult } from '../../src/react'
import { OPERATOR, RECEIVED } from '../chat/harness'
import { mount, page } from './harness'

let chat: UseChatResult

function Client({ bookingId, onStatusUpdate }: { bookingId: string; onStatusUpdate?: (status: string) => void }) {
  chat = useRealtimeChat({ bookingId, autoLoad: true, ...(onStatusUpdate && { onStatusUpdate }) })
  const { messages, currentStatus, connectionStatus } = chat
  return (
    <div>
      <p>{`${connectionStatus} ${currentStatus}`}</p>
      {messages.map((msg) => (
        <i key={msg.id} className={msg.sender_type}>
          {msg.message}
        </i>
      ))}
    </div>
  )
}

/** The operator's component of the guide, with the import path changed. */
function OperatorDashboard({ bookingId, seen }: { bookingId: string; seen: string[] }) {
  const [error, setError] = useState('')
  const { messages, isLoading, connectionStatus, pendingMessagesCount } = useChatWithDelivery({
    bookingId,
    autoLoad: true,
    enableRealtime: true,
    onConnectionChange: (status) => {
      seen.push(status)
      if (status === 'disconnected') setError('Connection lost. Messages may not be delivered.')
    },
  })
  return (
    <p>
      {[isLoading ? 'loading' : 'loaded', connectionStatus, pendingMessagesCount, messages.length, error].join(' ')}
    </p>
  )
}

describe(`hooks in React ${version.split('.')[0]}`, () => {
  it('are tested with the React that they say', () => {
    expect(version).toMatch(/^(18|19)\./)
  })

  it('load, listen, send and tell the status, under StrictMode', async () => {
    const { clock, server, booking } = page()
    const statuses: string[] = []
    const { container, ready } = mount(<Client bookingId={booking.code} onStatusUpdate={(status) => statuses.push(status)} />)
    await ready
    await act(() => clock.settle())
    expect(container.textContent).toBe(`connected pending${RECEIVED}`)
    await act(async () => {
      void chat.sendMessage('Hello')
      await clock.settle()
    })
    await act(async () => {
      server.database.setStatus(booking, 'accepted', OPERATOR, 'welcome')
      await clock.settle()
    })
    expect(container.textContent).toBe(`connected accepted${RECEIVED}Hellowelcome`)
    expect(statuses).toEqual(['accepted'])
    expect(container.querySelectorAll('i.client')).toHaveLength(1)
    expect(server.connections).toBe(1)
    const joins = server.sockets.flatMap(({ sent }) => sent.filter(({ event }) => event === 'phx_join'))
    expect(new Set(joins.map(({ topic }) => topic)).size).toBe(joins.length)
  })

  it('say while a message is on its way', async () => {
    const { clock, server, booking } = page()
    const { ready } = mount(<Client bookingId={booking.id} />)
    await ready
    await act(() => clock.settle())
    server.faults.refuseMessages = [503]
    await act(async () => void chat.sendMessage('Hello'))
    await act(() => clock.settle())
    expect(chat.isSending).toBe(true)
    await act(() => clock.advance(1_500))
    expect(chat.isSending).toBe(false)
  })

  it('do nothing while no booking is chosen, and follow the choice', async () => {
    const { clock, server, booking } = page()
    const other = server.database.openBooking('REQ2', booking.client_id)
    server.database.addMessage(other, { sender_role: 'operator', content: 'other' })
    const seen: string[] = []
    const { container, ready, render } = mount(<OperatorDashboard bookingId="" seen={seen} />)
    await ready
    await act(() => clock.settle())
    expect(server.requests).toEqual([])
    expect(server.sockets).toHaveLength(0)
    expect(container.textContent).toBe('loaded connecting 0 0 ')
    await render(<OperatorDashboard bookingId={booking.id} seen={seen} />)
    await act(() => clock.settle())
    expect(container.textContent).toBe('loaded connected 0 1 ')
    await render(<OperatorDashboard bookingId={other.id} seen={seen} />)
    await act(() => clock.settle())
    expect(container.textContent).toBe('loaded connected 0 2 ')
  })

  it('tell each change of the connection to the newest callback', async () => {
    const { clock, server, signals, booking } = page()
    const seen: string[] = []
    const { container, ready } = mount(<OperatorDashboard bookingId={booking.id} seen={seen} />)
    await ready
    await act(() => clock.settle())
    await act(async () => {
      signals.tell('offline')
      server.faults.unreachable = true
      server.cut()
      await clock.advance(10_000)
    })
    expect(container.textContent).toContain('Connection lost.')
    await act(async () => {
      signals.tell('online')
      await clock.settle()
      server.faults.unreachable = false
      await clock.advance(10_000)
    })
    expect(seen.filter((status, at) => status !== seen[at - 1])).toEqual(seen)
    expect(seen).toEqual(['connected', 'disconnected', 'reconnecting', 'connected'])
  })

  it('leave nothing behind after 1,000 mounts', async () => {
    const { clock, server, signals, booking } = page()
    const { ready, render, unmount } = mount(<Client bookingId={booking.id} />)
    await ready
    await act(() => clock.settle())
    for (let round = 0; round < 1_000; round++) {
      await render(<Client key={round} bookingId={round % 2 ? booking.id : booking.code} />)
      if (round % 100 === 0) await act(() => clock.advance(2_000))
    }
    expect(server.connections).toBe(1)
    await unmount()
    await clock.advance(60_000)
    expect(clock.pending).toBe(0)
    expect(server.connections).toBe(0)
    expect(signals.listeners.size).toBe(0)
  }, 120_000)

  it('render on a server without touching anything', () => {
    const { window } = globalThis
    // As on a server.
    Reflect.deleteProperty(globalThis, 'window')
    onTestFinished(() => void Object.assign(globalThis, { window }))
    const html = renderToString(<Client bookingId="REQ1" />)
    expect(html).toBe('<div><p>connecting </p></div>')
    expect(renderToString(<OperatorDashboard bookingId="" seen={[]} />)).toContain('loaded')
  })
})
