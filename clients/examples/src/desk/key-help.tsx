import { useEffect, useRef } from 'react'

import type { Words } from '../page/words'
import { type Command, keyName } from './commands'

/** The keys, in a dialog that Escape closes. */
export function KeyHelp({ commands, words, onClose }: { commands: readonly Command[]; words: Words; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  const rows = [...commands.map(({ name, keys }) => [keyName(keys[0]!), words.commands[name]]), ...words.alsoKeys]
  return (
    <dialog ref={dialog} className="dialog" onClose={onClose} aria-labelledby="keys-title">
      <h2 id="keys-title">{words.keys}</h2>
      <dl className="keys">
        {rows.map(([key, action]) => (
          <div key={action}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{action}</dd>
          </div>
        ))}
      </dl>
      <button type="button" className="button" onClick={() => dialog.current?.close()}>
        {words.cancel}
      </button>
    </dialog>
  )
}
