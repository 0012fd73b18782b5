import { useState } from 'react'

import { Icon } from './icon'
import { useTexts } from './text-context'

const STEPS = ['pending', 'accepted', 'deployed', 'completed']

export interface StatusStepperProps {
  status: string
  /** What to say of a step that was reached: when, and who said so. */
  notes?: Record<string, string>
}

/** The way of a booking, and how far it has come. A status off the way is a step of its own. A step that was reached tells more when pressed. */
export function StatusStepper({ status, notes = {} }: StatusStepperProps) {
  const texts = useTexts()
  const [open, setOpen] = useState('')
  const steps = STEPS.includes(status) || !status ? STEPS : [...STEPS.filter((step) => step in notes || step === 'pending'), status]
  const current = steps.indexOf(status)
  const word = (step: string) => (step === 'pending' ? texts.received : (texts.status[step] ?? step))
  return (
    <div className="pgr-stepper">
      <ol className="pgr-steps" aria-label={texts.progress}>
        {steps.map((step, at) => {
          const content = (
            <>
              <span className="pgr-step-dot" aria-hidden="true">
                {at <= current && <Icon name="check" />}
              </span>
              <span>{word(step)}</span>
            </>
          )
          return (
            <li key={step} data-state={at < current ? 'done' : at === current ? 'current' : 'todo'} aria-current={at === current ? 'step' : undefined}>
              {notes[step] ? (
                <button type="button" className="pgr-step" aria-expanded={open === step} onClick={() => setOpen(open === step ? '' : step)}>
                  {content}
                </button>
              ) : (
                <span className="pgr-step">{content}</span>
              )}
            </li>
          )
        })}
      </ol>
      {notes[open] && (
        <p className="pgr-step-note" role="status">
          {word(open)}: {notes[open]}
        </p>
      )}
    </div>
  )
}
