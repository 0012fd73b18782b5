import { useEffect } from 'react'

/** Shows a count in front of the page's title. */
export function useUnreadTitle(count: number, title?: string): void {
  useEffect(() => {
    const before = document.title.replace(/^\(\d+\) /, '')
    const bare = title ?? before
    document.title = count > 0 ? `(${count}) ${bare}` : bare
    return () => {
      document.title = before
    }
  }, [count, title])
}
