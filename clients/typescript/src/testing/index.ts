export { FakeClock } from './fake-clock'
export { ChatDatabase, type FakeBooking, type FakeMessage, type FakeReceipt, type FakeUser } from './chat-database'
export { createFakeRelay, FakeRelay, type FakeRelayOptions, fakeToken, type Faults } from './fake-relay'
export { ScriptedSocket, scriptSockets, type SocketScript } from './scripted-socket'
