#!/usr/bin/env node
import { runCommand } from './cli.ts';

process.exitCode = await runCommand(process.argv.slice(2), { environment: process.env, stdout: process.stdout, stderr: process.stderr, onStop: (stop) => {
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
} });
