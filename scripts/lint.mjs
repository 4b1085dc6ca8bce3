// All of lint: the contract, the code, the ladder of rooms, the types. Prints "N modules" for what the ladder looked at.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = (name) => join(root, 'node_modules', '.bin', name);
let failed = false;

function run(title, program, args, options = {}) {
  const done = spawnSync(program, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20, ...options });
  const ok = done.status === 0;
  process.stdout.write(`${ok ? 'ok    ' : 'FAILED'} ${title}\n`);
  if (!ok) {
    failed = true;
    process.stdout.write(`${done.stdout ?? ''}${done.stderr ?? ''}`);
  }
  return done;
}

run('contract: buf lint', bin('buf'), ['lint']);
run('contract: buf breaking', bin('buf'), ['breaking', '--against', 'proto/released.binpb']);
run('code: oxlint, type-aware', bin('oxlint'), ['--type-aware', '--deny-warnings', 'packages', 'scripts']);
run('format: oxfmt', bin('oxfmt'), ['--check', 'packages', 'scripts']);

const cruise = run(
  'rooms: dependency-cruiser',
  bin('depcruise'),
  ['packages', '--config', '.dependency-cruiser.cjs', '--output-type', 'json'],
  { stdio: ['ignore', 'pipe', 'pipe'] },
);
const report = JSON.parse(cruise.stdout || '{}');
const modules = report.summary?.totalCruised ?? 0;
for (const violation of report.summary?.violations ?? [])
  process.stdout.write(`  ${violation.rule.name}: ${violation.from} -> ${violation.to}\n`);
if (modules === 0) {
  failed = true;
  process.stdout.write('FAILED rooms: not one module was looked at\n');
}
if ((report.summary?.error ?? 0) > 0) failed = true;

run('types: tsc -b', bin('tsc'), ['-b']);
process.stdout.write(`${modules} modules\n`);
process.exitCode = failed ? 1 : 0;
