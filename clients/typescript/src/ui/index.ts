export { Announcer } from './announcer'
export { Composer, type ComposerHandle, type ComposerProps } from './composer'
export { type ConnectionFacts, ConnectionNotice, useCalmStatus } from './connection-notice'
export { Icon } from './icon'
export { MessageList, type MessageListProps } from './message-list'
export {
  Banner,
  ChatOfflineBanner,
  ConnectionStatus,
  MessageDeliveryIndicator,
  PendingMessagesBanner,
  StatusBadge,
} from './status-components'
export { StatusStepper, type StatusStepperProps } from './status-stepper'
export { TextProvider, useTexts } from './text-context'
export { de, en, type Texts } from './texts'
