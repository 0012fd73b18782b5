/** Serves the pages over a pgrelay in memory, with one booking, until it is stopped. */
import { CLIENT, pageUrls, startMockServer } from './mock-server.mjs'

const { url, relay } = await startMockServer(4000)
const booking = relay.database.openBooking('REQ1759286674249', CLIENT.id, CLIENT.name)
console.log(Object.values(pageUrls(url, booking.code)).join('\n'))
