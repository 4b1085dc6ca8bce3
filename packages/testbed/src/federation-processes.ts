import { initIndex, type MeridianIndex, openIndex } from '@meridian/index/index-server';
import { openLog } from '@meridian/shared/log';
import { runCommand } from './processes.ts';

/** An index in this process for nodes in others; it can be stopped and started over the same folder and ports. */
export interface ServedIndex {
  current(): MeridianIndex;
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

/** Makes an index and opens it on free loopback ports, which it keeps over restarts. */
export async function openServedIndex(folder: string): Promise<ServedIndex> {
  await initIndex({ folder, name: 'Campaign index', host: '127.0.0.1', ports: { join: 0, grpc: 0 } });
  const open = (): Promise<MeridianIndex> => openIndex({ folder, log: openLog({ part: 'index', level: 'warn' }) });
  let index: MeridianIndex | undefined = await open();
  const stop = async (): Promise<void> => {
    await index?.close();
    index = undefined;
  };
  return {
    current: () => {
      if (index === undefined) throw new Error('the index is stopped');
      return index;
    },
    stop,
    start: async () => {
      index = await open();
    },
    close: stop,
  };
}

/** Adds a hospital and joins a node by the command that its IT would type. */
export async function joinNode(
  index: ServedIndex,
  node: { name: string; folder: string; env: Readonly<Record<string, string>> },
): Promise<void> {
  const { joinLink } = await index.current().addHospital({ name: node.name });
  const joined = await runCommand('meridian', ['join', joinLink, '--data', node.folder], { env: node.env });
  if (joined.code !== 0) throw new Error(`join failed with exit code ${joined.code}:\n${joined.stderr}`);
}
