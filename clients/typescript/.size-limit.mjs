/** What each part costs whoever uses it, compressed, without what it stands on and without what is loaded when needed. */
const leaveOut = (pattern) => (config) => ({
  ...config,
  plugins: [
    ...(config.plugins ?? []),
    {
      name: 'leave-out',
      setup(build) {
        build.onResolve({ filter: pattern }, ({ path, kind }) => (kind === 'entry-point' ? undefined : { path, external: true }))
      },
    },
  ],
})

const part = (name, path, limit, pattern, names) => ({
  name,
  path,
  limit,
  gzip: true,
  ...(names && { import: names }),
  ...(pattern && { modifyEsbuildConfig: leaveOut(pattern) }),
})

export default [
  part('core', 'dist/index.mjs', '6.9 kB', /^phoenix$|\/change-stream-/, '{ createRelay }'),
  part('chat', 'dist/chat.mjs', '5.3 kB', /\/(core|outbox|activity)-/, '{ createChat }'),
  part('react', 'dist/react.mjs', '2 kB', /^react|\/(core|conversation)-/),
  part('ui', 'dist/ui.mjs', '9 kB', /^react|\/(core|conversation|hooks)-|\/chat\.mjs$/),
  part('outbox', 'dist/outbox-*.mjs', '2.4 kB', /\/(core|conversation)-/),
  { name: 'styles', path: 'dist/styles.css', limit: '4 kB', gzip: true },
]
