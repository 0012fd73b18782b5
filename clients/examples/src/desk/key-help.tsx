import { useEffect, useRef } from 'react'

import type { Words } from '../page/words'

/** The keys, in a dialog that Escape closes. */
export function KeyHelp({ words, onClose }: { words: Words; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog ref={dialog} className="dialog" onClose={onClose} aria-labelledby="keys-title">
      <h2 id="keys-title">{words.keys}</h2>
      <dl className="keys">
        {words.keyHelp.map(([key, action]) => (
          <div key={key}>
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
