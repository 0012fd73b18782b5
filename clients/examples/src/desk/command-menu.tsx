import { type KeyboardEvent, useEffect, useRef, useState } from 'react'

import type { Words } from '../page/words'
import { type Command, keyName } from './commands'

/** All commands, found by a few letters of their names. */
export function CommandMenu({ commands, words, onClose }: { commands: readonly Command[]; words: Words; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [text, setText] = useState('')
  const [at, setAt] = useState(0)
  useEffect(() => dialog.current?.showModal(), [])
  const found = commands.filter(({ name }) => words.commands[name].toLowerCase().includes(text.trim().toLowerCase()))
  const chosen = found[Math.min(at, found.length - 1)]
  const run = (command: Command | undefined) => {
    if (!command) return
    dialog.current?.close()
    // Once the dialog has given the focus back, so that a command can move it.
    setTimeout(command.run)
  }
  const press = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (by) setAt(Math.max(0, Math.min(found.length - 1, at + by)))
    else if (event.key === 'Enter') run(chosen)
    else return
    event.preventDefault()
  }
  return (
    <dialog ref={dialog} className="dialog command-menu" onClose={onClose} aria-label={words.commands.menu}>
      <input
        role="combobox"
        aria-expanded="true"
        aria-controls="commands"
        aria-activedescendant={chosen && `command-${chosen.name}`}
        aria-label={words.findCommand}
        placeholder={words.findCommand}
        autoFocus
        value={text}
        onChange={({ target }) => {
          setText(target.value)
          setAt(0)
        }}
        onKeyDown={press}
      />
      <ul id="commands" role="listbox" aria-label={words.commands.menu}>
        {found.map((command) => (
          <li key={command.name} id={`command-${command.name}`} role="option" aria-selected={command === chosen} onClick={() => run(command)}>
            {words.commands[command.name]}
            <kbd>{keyName(command.keys[0]!)}</kbd>
          </li>
        ))}
      </ul>
      {found.length === 0 && <p className="hint">{words.nothingFound}</p>}
    </dialog>
  )
}
