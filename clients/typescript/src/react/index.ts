export { RelayProvider, useRelay } from './relay-context'
export {
  useChat,
  type UseChatOptions,
  type UseChatResult,
  useChatWithDelivery,
  type UseChatWithDeliveryOptions,
  useRealtimeChat,
  type UseRealtimeChatOptions,
} from './use-chat'
export { useInbox, useRelayStatus } from './use-inbox'
export { useUnreadTitle } from './use-unread-title'
