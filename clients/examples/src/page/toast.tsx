import { useCallback, useEffect, useState } from 'react'

/** Milliseconds that a toast stays once it can be seen. */
const STAY = 6_000

/** A short message over the page, shown until it has been in sight for a while. */
export function useToast(): [text: string, show: (text: string) => void] {
  const [text, setText] = useState('')
  useEffect(() => {
    if (!text) return
    let timer: ReturnType<typeof setTimeout> | undefined
    const look = () => {
      clearTimeout(timer)
      if (document.visibilityState === 'visible') timer = setTimeout(() => setText(''), STAY)
    }
    look()
    document.addEventListener('visibilitychange', look)
    return () => {
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', look)
    }
  }, [text])
  return [text, useCallback((next: string) => setText(next), [])]
}

export function Toast({ text }: { text: string }) {
  return (
    <div className="toast-place" role="status">
      {text && <p className="toast">{text}</p>}
    </div>
  )
}
