import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

/** The page: external assets only, so that the strictest content security policy holds. */
export default defineConfig(({ command }) => {
  // Whoever starts the build (a test runner, say), the page is the production one: React's other build is three times as big.
  if (command === 'build') process.env['NODE_ENV'] = 'production';
  return {
    root: import.meta.dirname,
    plugins: [react()],
    build: { outDir: 'dist', emptyOutDir: true, assetsInlineLimit: 0, modulePreload: { polyfill: false }, target: 'es2022' },
    server: { proxy: { '/api': 'http://127.0.0.1:8080', '/dicomweb': 'http://127.0.0.1:8080' } },
  };
});
