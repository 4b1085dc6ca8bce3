import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '@meridian/shared/errors';

/** Default ports of the two listeners. */
export const DEFAULT_PORTS = { join: 7400, grpc: 7401 } as const;
/** Evaluations of a node and day; at that pace trying every resident id takes 18,500 years. */
export const DEFAULT_DAILY_EVALUATIONS = 20_000;

/** What `init` writes into the data folder and the operator may edit: `meridian-index.json`. */
export interface IndexSettings {
  readonly name: string;
  /** Name or address under which hospitals reach the index. */
  readonly host: string;
  /** Address to listen on. */
  readonly listen: string;
  /** 0: any free port, kept for the next start. */
  readonly joinPort: number;
  readonly grpcPort: number;
  readonly dailyEvaluations: number;
}

/** Files of the data folder. Keys have mode 0600; back up all of them but the database together. */
export function indexFiles(
  folder: string,
): Readonly<
  Record<
    | 'settings'
    | 'ports'
    | 'control'
    | 'database'
    | 'audit'
    | 'caKey'
    | 'caCertificate'
    | 'tlsKey'
    | 'tlsCertificate'
    | 'signingKey'
    | 'evaluatorKeys',
    string
  >
> {
  return {
    settings: join(folder, 'meridian-index.json'),
    ports: join(folder, 'ports.json'),
    control: join(folder, 'control.json'),
    database: join(folder, 'index.sqlite'),
    audit: join(folder, 'audit'),
    caKey: join(folder, 'ca-key.pem'),
    caCertificate: join(folder, 'ca-certificate.pem'),
    tlsKey: join(folder, 'tls-key.pem'),
    tlsCertificate: join(folder, 'tls-certificate.pem'),
    signingKey: join(folder, 'signing-key.pem'),
    evaluatorKeys: join(folder, 'evaluator-keys.json'),
  };
}

/**
 * Settings of a data folder.
 * @throws MeshError FAILED_PRECONDITION / INDEX_NOT_INITIALISED | SETTINGS_INVALID, with the key, what was found and an example
 */
export async function readSettings(folder: string): Promise<IndexSettings> {
  const path = indexFiles(folder).settings;
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) {
    throw new MeshError(
      'FAILED_PRECONDITION',
      'INDEX_NOT_INITIALISED',
      `There is no index in ${folder}. Make one with \`meridian-index init\`, or name its folder with --data.`,
    );
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new MeshError('FAILED_PRECONDITION', 'SETTINGS_INVALID', `${path} is not JSON. Correct it, or restore it from a backup.`, {
      cause,
    });
  }
  return checkSettings((parsed ?? {}) as Partial<Record<keyof IndexSettings, unknown>>, path);
}

/** Settings with defaults filled in; errors as {@link readSettings}. */
export function checkSettings(given: Partial<Record<keyof IndexSettings, unknown>>, where: string): IndexSettings {
  const host = textOf(given.host ?? '127.0.0.1', 'host', where, 'index.example.org');
  return {
    name: textOf(given.name ?? 'Meridian', 'name', where, 'National Imaging Index'),
    host,
    listen: textOf(given.listen ?? '127.0.0.1', 'listen', where, '0.0.0.0'),
    joinPort: numberOf(given.joinPort ?? DEFAULT_PORTS.join, 'joinPort', where, 65_535),
    grpcPort: numberOf(given.grpcPort ?? DEFAULT_PORTS.grpc, 'grpcPort', where, 65_535),
    dailyEvaluations: numberOf(given.dailyEvaluations ?? DEFAULT_DAILY_EVALUATIONS, 'dailyEvaluations', where, 1_000_000_000),
  };
}

function textOf(value: unknown, key: keyof IndexSettings, where: string, example: string): string {
  if (typeof value === 'string' && value.trim().length >= 1 && value.length <= 253 && !/[\s/]/.test(key === 'name' ? '' : value))
    return value.trim();
  throw new MeshError(
    'FAILED_PRECONDITION',
    'SETTINGS_INVALID',
    `${key} in ${where} must be a text such as "${example}", got ${JSON.stringify(value)}.`,
  );
}

function numberOf(value: unknown, key: keyof IndexSettings, where: string, max: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw new MeshError(
    'FAILED_PRECONDITION',
    'SETTINGS_INVALID',
    `${key} in ${where} must be a whole number from 0 to ${max}, got ${JSON.stringify(value)}.`,
  );
}
