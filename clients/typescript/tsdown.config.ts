import { copyFileSync } from 'node:fs'

import { defineConfig } from 'tsdown'

/** Entries whose code runs in the browser only, which React's server builds must be told. */
const CLIENT_ENTRIES = ['react', 'ui']

/** Code below a folder of src; declarations go their own way. */
const code = (path: string) => new RegExp(`src/${path}(?!.*\\.d\\.)`)

export default defineConfig({
  entry: {
    index: 'src/core/index.ts',
    chat: 'src/chat/index.ts',
    react: 'src/react/index.ts',
    ui: 'src/ui/index.ts',
    testing: 'src/testing/index.ts',
  },
  format: ['esm', 'cjs'],
  target: 'es2022',
  platform: 'neutral',
  dts: true,
  sourcemap: true,
  clean: true,
  fixedExtension: true,
  outputOptions: {
    // One chunk per subpath, so that what a subpath adds can be seen and measured; what is loaded when needed stays apart.
    advancedChunks: {
      groups: [
        { name: 'core', test: code('core/(?!change-stream|event-stream)') },
        { name: 'conversation', test: code('chat/(?!indexed-db|activity|outbox\\.|tabs)') },
        { name: 'hooks', test: code('react/') },
      ],
    },
    banner: (chunk: { name: string; isEntry: boolean }) =>
      CLIENT_ENTRIES.includes(chunk.name) || chunk.name === 'hooks' ? "'use client'" : '',
  },
  onSuccess: () => copyFileSync('src/ui/styles.css', 'dist/styles.css'),
})
