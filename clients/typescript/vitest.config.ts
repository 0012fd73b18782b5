import { fileURLToPath } from 'node:url'

import { defineConfig } from 'vitest/config'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const REACT_18 = 'test/react-18/node_modules'

/** The hooks and components, with one major of React. */
const browser = (name: string, alias: Record<string, string>) => ({
  resolve: { alias },
  test: { name, environment: 'jsdom', include: ['test/react/**/*.test.{ts,tsx}'] },
})

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'node', environment: 'node', include: ['test/{core,chat,testing}/**/*.test.ts'] } },
      browser('react 19', {}),
      browser('react 18', {
        'react-dom': at(`${REACT_18}/react-dom`),
        react: at(`${REACT_18}/react`),
      }),
    ],
  },
})
