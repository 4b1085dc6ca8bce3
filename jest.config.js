const transform = { '^.+\\.tsx?$': ['@swc/jest', { jsc: { parser: { syntax: 'typescript', tsx: true }, transform: { react: { runtime: 'automatic' } }, target: 'es2023' }, module: { type: 'es6' }, sourceMaps: 'inline' }] };
const project = (name, testMatch) => ({ displayName: name, rootDir: `packages/${name}`, testMatch, testEnvironment: 'node', extensionsToTreatAsEsm: ['.ts', '.tsx'], transform });
export default {
  testTimeout: 60_000,
  // Threads of their own for the suites, also on two cores: a suite that leaks takes only its worker along.
  maxWorkers: 2,
  projects: [
    ...['shared', 'index', 'node', 'web'].map((name) => project(name, ['<rootDir>/src/**/*.test.ts', '<rootDir>/src/**/*.test.tsx'])),
    project('testbed', ['<rootDir>/src/**/*.test.ts', '<rootDir>/test/**/*.test.ts']),
  ],
};
