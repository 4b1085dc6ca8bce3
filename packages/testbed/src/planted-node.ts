import { loadNodeConfig } from '@meridian/node/config';
import { openNode } from '@meridian/node/node';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A node with a bug put in on purpose, so that a campaign can show that it would notice. */
const [folder = '', plant = ''] = process.argv.slice(2);
const FAULTS = { 'ack-before-write': { acknowledgeBeforeWrite: true }, 'drop-row': { dropOutboxRow: true } } as const;
if (!(plant in FAULTS)) throw new Error(`no such bug: ${plant}`);

const node = await openNode(loadNodeConfig({ folder, env: process.env }), { faults: FAULTS[plant as keyof typeof FAULTS] });
await mkdir(join(folder, 'run'), { recursive: true });
await writeFile(join(folder, 'run/node.json'), JSON.stringify({ pid: process.pid, apiUrl: node.apiUrl }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void node.close().then(() => process.exit(0));
  });
}
