import type { Relay } from '../core'
import { ChatApi } from './api'
import type { Booking, Receipt } from './message'

/** Who takes care of a booking. */
export interface Assignment {
  operator_id: string
  operator_name: string | null
}

/** One status that a booking has had: since when, and who said so. */
export interface StatusChange {
  version: number
  to: string
  actor_name: string | null
  actor_role: string
  at: string
}

export interface BookingDetails {
  booking: Booking
  /** What the status may become next. */
  transitions: string[]
  assignment: Assignment | null
  receipts: Receipt[]
  history: StatusChange[]
}

/** Everything known of one booking, named by id or code. */
export function loadBooking(relay: Relay, booking: string): Promise<BookingDetails> {
  return new ChatApi(relay).request('GET', `/api/bookings/${encodeURIComponent(booking)}`)
}
