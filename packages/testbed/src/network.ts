import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { initIndex, type MeridianIndex, openIndex } from '@meridian/index/index-server';
import { loadNodeConfig, type NodeConfig } from '@meridian/node/config';
import { joinFederation } from '@meridian/node/federation/join';
import { type MeridianNode, type NodeParts, openNode } from '@meridian/node/node';
import { type Logger, openLog } from '@meridian/shared/log';
import { type HospitalClient, hospitalClient } from './hospital-client.ts';

/** What a hospital of the network is made of. */
export interface HospitalPlan<Key extends string = string> {
  readonly key: Key;
  readonly name: string;
  readonly assigningAuthority: string;
  readonly aeTitle: string;
}

/** Where the network listens; 0 takes any free port. */
export interface NetworkPorts {
  readonly join: number;
  readonly grpc: number;
  readonly hospitals: readonly { readonly http: number; readonly dimse: number; readonly peer: number }[];
}

/** One hospital of a running network. */
export interface Hospital<Key extends string = string> {
  readonly key: Key;
  readonly name: string;
  readonly aeTitle: string;
  readonly dimsePort: number;
  readonly url: string;
  readonly client: HospitalClient;
  readonly node: MeridianNode;
  /** Closes the node and opens it again over the same folder. */
  restart(parts?: NodeParts): Promise<void>;
}

/** An index and some hospitals with real ports, TLS and disks, in one process. */
export interface Network<Key extends string = string> {
  readonly index: MeridianIndex;
  hospital(key: Key): Hospital<Key>;
  readonly hospitals: readonly Hospital<Key>[];
  /** Until nothing is under way: studies settled, manifests acknowledged, consents delivered. */
  settle(): Promise<void>;
  stopIndex(): Promise<void>;
  startIndex(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a network over a folder; what was joined and stored there before is found again.
 * @param options.folder one folder for the index and each hospital stand below it
 */
export async function openNetwork<Key extends string>(options: {
  readonly folder: string;
  readonly hospitals: readonly HospitalPlan<Key>[];
  readonly ports?: NetworkPorts;
  readonly logLevel?: string;
  readonly quietTimeMs?: number;
  readonly releasedQuietTimeMs?: number;
  readonly parts?: NodeParts;
  /** Where the index writes its log; standard error unless given. */
  readonly indexLog?: Logger;
}): Promise<Network<Key>> {
  const indexFolder = join(options.folder, 'index');
  const ports = { join: options.ports?.join ?? 0, grpc: options.ports?.grpc ?? 0 };
  if (!existsSync(join(indexFolder, 'meridian-index.json')))
    await initIndex({ folder: indexFolder, name: 'National index', host: '127.0.0.1', ports });
  const closers: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const one of closers.splice(0).toReversed()) await one();
  };
  try {
    const openOwnIndex = (): Promise<MeridianIndex> =>
      openIndex({ folder: indexFolder, log: options.indexLog ?? openLog({ part: 'index', level: options.logLevel ?? 'warn' }) });
    let index = await openOwnIndex();
    closers.push(() => index.close());
    const hospitals: Hospital<Key>[] = [];
    for (const [at, plan] of options.hospitals.entries()) {
      const config = nodeConfig(options, plan, at);
      if (!existsSync(join(config.folder, 'identity')))
        await joinFederation({
          link: (await index.addHospital({ name: plan.name })).joinLink,
          folder: config.folder,
          aeTitle: plan.aeTitle,
        });
      const hospital = await openHospital(plan, config, options.parts);
      hospitals.push(hospital);
      closers.push(() => hospital.node.close());
    }
    return {
      get index() {
        return index;
      },
      hospitals,
      hospital(key) {
        const found = hospitals.find((hospital) => hospital.key === key);
        if (found === undefined) throw new Error(`no hospital "${key}" in this network`);
        return found;
      },
      async settle() {
        // Twice: what one node sends may give another something to do.
        for (let round = 0; round < 2; round += 1) for (const hospital of hospitals) await hospital.node.settle();
      },
      stopIndex: () => index.close(),
      async startIndex() {
        index = await openOwnIndex();
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function nodeConfig(options: Parameters<typeof openNetwork>[0], plan: HospitalPlan, at: number): NodeConfig {
  const ports = options.ports?.hospitals[at];
  const defaults = loadNodeConfig({ folder: join(options.folder, plan.key), env: {} });
  return {
    ...defaults,
    name: plan.name,
    assigningAuthority: plan.assigningAuthority,
    dimse: { ...defaults.dimse, port: ports?.dimse ?? 0, aeTitle: plan.aeTitle, maximumAssociationsPerAddress: 100 },
    http: { ...defaults.http, port: ports?.http ?? 0 },
    peer: { ...defaults.peer, port: ports?.peer ?? 0 },
    quietTimeMs: options.quietTimeMs ?? 2_000,
    releasedQuietTimeMs: options.releasedQuietTimeMs ?? 300,
    minimumFreeDisk: 0.001,
    logLevel: options.logLevel ?? 'warn',
  };
}

async function openHospital<Key extends string>(
  plan: HospitalPlan<Key>,
  config: NodeConfig,
  parts: NodeParts | undefined,
): Promise<Hospital<Key>> {
  let node = await openNode(config, parts);
  let client = hospitalClient(node.pageUrl);
  return {
    key: plan.key,
    name: plan.name,
    aeTitle: plan.aeTitle,
    get dimsePort() {
      return node.ports.dimse;
    },
    get url() {
      return node.pageUrl;
    },
    get client() {
      return client;
    },
    get node() {
      return node;
    },
    async restart(again = parts) {
      // The ports that it had: a hospital's addresses do not change with a restart.
      const { ports } = node;
      await node.close();
      node = await openNode(
        {
          ...config,
          dimse: { ...config.dimse, port: ports.dimse },
          http: { ...config.http, port: ports.http },
          peer: { ...config.peer, port: ports.peer },
        },
        again,
      );
      client = hospitalClient(node.pageUrl);
    },
  };
}
