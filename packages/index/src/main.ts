#!/usr/bin/env node
import { runCommand } from './cli.ts';

// `meridian-index hospital list | head` closes the pipe early: that is no fault.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
}

process.exitCode = await runCommand(process.argv.slice(2), { environment: process.env, stdout: process.stdout, stderr: process.stderr, onStop: (stop) => {
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
} });
