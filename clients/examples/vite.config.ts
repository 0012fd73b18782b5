import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// The pages are served as /chat and /desk, their files below /assets: all paths are relative, so any folder will do.
export default defineConfig({
  base: './',
  plugins: [react()],
  // The package is linked here; both must use one React.
  resolve: { dedupe: ['react', 'react-dom'] },
  build: {
    target: 'es2022',
    outDir: 'built/dist',
    rollupOptions: { input: { chat: 'chat.html', desk: 'desk.html' } },
  },
})
