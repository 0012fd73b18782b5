import { type FormEvent, type KeyboardEvent, type ReactNode, type Ref, useEffect, useImperativeHandle, useRef, useState } from 'react'

import { CONTENT_MAX } from '../chat'
import { Icon } from './icon'
import { useTexts } from './text-context'

export interface ComposerHandle {
  focus(): void
  /** Puts a text in, such as one that was not sent. */
  fill(text: string): void
}

export interface ComposerProps {
  /** Rejects for what cannot be sent; the text then comes back. */
  onSend: (text: string) => Promise<unknown>
  onTyping?: (isTyping: boolean) => void
  /** The name under which an unfinished text is kept. */
  draftKey?: string
  isSending?: boolean
  disabled?: boolean
  placeholder?: string
  /** Enter makes a new line, and the button sends. */
  enterIsNewline?: boolean
  handle?: Ref<ComposerHandle>
  /** Shown above the field, and told what is written. */
  children?: (text: string, fill: (text: string) => void) => ReactNode
}

const draftName = (key: string) => `pgrelay-draft:${key}`

function readDraft(key: string | undefined): string {
  try {
    return (key && localStorage.getItem(draftName(key))) || ''
  } catch {
    return ''
  }
}

function keepDraft(key: string | undefined, text: string): void {
  try {
    if (key && text) localStorage.setItem(draftName(key), text)
    else if (key) localStorage.removeItem(draftName(key))
  } catch {
    // A window without storage keeps no drafts.
  }
}

/** The field one writes in. Enter sends, Shift+Enter makes a new line. */
export function Composer(props: ComposerProps) {
  const texts = useTexts()
  const { onSend, onTyping, draftKey, isSending = false, disabled = false, enterIsNewline = false } = props
  const [text, setText] = useState('')
  const [problem, setProblem] = useState('')
  const field = useRef<HTMLTextAreaElement>(null)
  const sentInTurn = useRef('')

  useEffect(() => setText(readDraft(draftKey)), [draftKey])
  useEffect(() => {
    const element = field.current!
    element.style.height = 'auto'
    element.style.height = `${element.scrollHeight}px`
  }, [text])

  const fill = (next: string) => {
    setText(next)
    setProblem('')
    keepDraft(draftKey, next)
    field.current?.focus()
  }
  useImperativeHandle(props.handle, () => ({ focus: () => field.current?.focus(), fill }))

  const send = async () => {
    const content = text.trim()
    if (!content || content === sentInTurn.current || disabled) return
    if (content.length > CONTENT_MAX) return setProblem(texts.tooLong(content.length, CONTENT_MAX))
    sentInTurn.current = content
    setTimeout(() => (sentInTurn.current = ''))
    fill('')
    try {
      await onSend(content)
    } catch (error) {
      fill(content)
      setProblem(error instanceof Error ? error.message : String(error))
    }
  }
  const submit = (event: FormEvent) => {
    event.preventDefault()
    void send()
  }
  const press = (event: KeyboardEvent) => {
    const isEnter = event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing
    if (!isEnter || (enterIsNewline && !event.ctrlKey && !event.metaKey)) return
    event.preventDefault()
    void send()
  }
  const left = CONTENT_MAX - text.length

  return (
    <form className="pgr-composer" onSubmit={submit}>
      {props.children?.(text, fill)}
      {problem && (
        <p className="pgr-problem" role="alert">
          {problem}
        </p>
      )}
      <div className="pgr-composer-line">
        <textarea
          ref={field}
          rows={1}
          value={text}
          disabled={disabled}
          aria-label={texts.write}
          placeholder={props.placeholder ?? texts.write}
          enterKeyHint={enterIsNewline ? 'enter' : 'send'}
          onChange={({ target }) => {
            setText(target.value)
            setProblem('')
            keepDraft(draftKey, target.value)
            onTyping?.(target.value !== '')
          }}
          onKeyDown={press}
          onBlur={() => onTyping?.(false)}
        />
        {left < CONTENT_MAX / 10 && (
          <span className="pgr-muted" data-over={left < 0 || undefined}>
            {texts.left(left)}
          </span>
        )}
        <button type="submit" className="pgr-send" aria-label={texts.send} disabled={disabled || !text.trim()} data-busy={isSending || undefined}>
          <Icon name="send" />
        </button>
      </div>
    </form>
  )
}
