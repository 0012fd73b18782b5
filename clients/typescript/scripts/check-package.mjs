/** Looks at the built package as its users do: every entry, both module systems, both ways of resolving types. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const require = createRequire(import.meta.url)
const ENTRIES = ['', '/chat', '/react', '/ui', '/testing']

function check(what, holds) {
  if (holds) return
  console.error(`package: ${what}`)
  process.exitCode = 1
}

// Importing does nothing: no listener, no timer, no connection, nothing on the global object.
const before = new Set(Reflect.ownKeys(globalThis))
for (const entry of ENTRIES) {
  const module = await import(`pgrelay${entry}`)
  const common = require(`pgrelay${entry}`)
  const names = Object.keys(module).sort().join()
  check(`pgrelay${entry} has no default export`, !('default' in module))
  check(`pgrelay${entry} is the same as module and as script`, names === Object.keys(common).sort().join())
}
const added = Reflect.ownKeys(globalThis).filter((key) => !before.has(key))
check(`importing leaves ${added.map(String)} on the global object`, added.length === 0)
check('importing keeps the process alive', process.getActiveResourcesInfo().every((kind) => !/Timeout|TCP/.test(kind)))

// What a browser runs names no module of Node.
for (const file of readdirSync(join(root, 'dist')).filter((name) => /\.[cm]js$/.test(name))) {
  const text = readFileSync(join(root, 'dist', file), 'utf8')
  check(`${file} uses a module of Node`, !/(from\s*|require\()["'](node:|fs|path|crypto|url|util|stream)["']/.test(text))
  check(`${file} looks at process`, !/\bprocess\.(version|env)\b/.test(text))
}
for (const entry of ['react', 'ui']) {
  for (const kind of ['mjs', 'cjs']) {
    const text = readFileSync(join(root, 'dist', `${entry}.${kind}`), 'utf8')
    check(`${entry}.${kind} says 'use client'`, /^["']use client["']/.test(text))
  }
}

// A user's program, compiled as one.
const folder = mkdtempSync(join(tmpdir(), 'pgrelay-user-'))
mkdirSync(join(folder, 'node_modules/@types'), { recursive: true })
symlinkSync(root, join(folder, 'node_modules/pgrelay'))
for (const name of ['react', '@types/react']) symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name))
writeFileSync(
  join(folder, 'user.mts'),
  `import { createRelay, filter, RelayError } from 'pgrelay'
import { type ChatMessage, realtimeMessageService, unifiedChatService } from 'pgrelay/chat'
import { useChatWithDelivery, useRealtimeChat } from 'pgrelay/react'
import { ConnectionStatus } from 'pgrelay/ui'
import { createFakeRelay } from 'pgrelay/testing'
const relay = createRelay({ url: 'http://x', getToken: async () => null })
relay.changes<{ id: string }>({ entries: [{ table: 't', filter: filter.eq('id', 1) }] }).on('change', ({ record }) => record.id.length)
export const uses: unknown[] = [RelayError, realtimeMessageService, unifiedChatService, useChatWithDelivery, useRealtimeChat, ConnectionStatus, createFakeRelay]
export type Message = ChatMessage
`,
)
for (const resolution of ['node16', 'bundler']) {
  const module = resolution === 'node16' ? 'node16' : 'esnext'
  const flags = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2022,dom', '--types', 'react', '--jsx', 'react-jsx']
  try {
    execFileSync(join(root, 'node_modules/.bin/tsc'), [...flags, '--module', module, '--moduleResolution', resolution, join(folder, 'user.mts')], { stdio: 'inherit' })
  } catch {
    check(`types cannot be used with moduleResolution ${resolution}`, false)
  }
}
rmSync(folder, { recursive: true })
if (!process.exitCode) console.log('package: all entries work as module and as script, with types')
