import type { Words } from '../page/words'

export type CommandName = keyof Words['commands']

/** Something an operator can do from the keyboard and from the command menu. */
export interface Command {
  name: CommandName
  /** Any of these: a key, two in a row such as `g u`, or `mod+k` for Ctrl or Cmd. The first is the one that is shown. */
  keys: readonly string[]
  run: () => void
}

/** A key as it is written on keyboards. */
export function keyName(key: string): string {
  if (key.startsWith('mod+')) return `Ctrl+${key.slice(4).toUpperCase()}`
  return key
    .split(' ')
    .map((part) => (part !== part.toLowerCase() ? `Shift+${part}` : part.toUpperCase()))
    .join(' ')
}
