import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { MeshError } from '@meridian/shared/errors';

/**
 * Who may send by DIMSE, and whose identifiers they use. AE titles are no authentication: a rule names an address too
 * where it can.
 */
export interface AeRule {
  /** Calling AE title, 1–16 characters; any when absent. */
  readonly aeTitle?: string;
  /** IP address of the sender; any when absent. */
  readonly address?: string;
  /** Assigning authority of patient ids that carry no issuer of their own. */
  readonly assigningAuthority: string;
  /** Set where the sender's PatientID is the national id. */
  readonly nationalIdIn?: 'patient-id';
}

/** Everything a node is told from outside. */
export interface NodeConfig {
  /** Where everything that the node keeps stands. */
  readonly folder: string;
  /** What people call this hospital until it has joined (then the index's record says). */
  readonly name: string;
  /** Assigning authority of this hospital's own patient ids. */
  readonly assigningAuthority: string;
  readonly dimse: {
    readonly host: string;
    readonly port: number;
    readonly aeTitle: string;
    readonly allow: readonly AeRule[];
    readonly maximumAssociations: number;
    readonly maximumAssociationsPerAddress: number;
  };
  readonly http: { readonly host: string; readonly port: number };
  readonly peer: {
    readonly host: string;
    readonly port: number;
    /** Multiaddrs told to other nodes, where they differ from the listening one (NAT, several networks). */
    readonly announce: readonly string[];
  };
  /** Silence after which a study counts as settled, milliseconds. */
  readonly quietTimeMs: number;
  /** The same after the sender released its association normally. */
  readonly releasedQuietTimeMs: number;
  /** Below this share of free disk (0–1) nothing new is accepted; reads go on. */
  readonly minimumFreeDisk: number;
  readonly logLevel: string;
}

interface Key {
  readonly env: string;
  readonly file: string;
  readonly fallback: string;
  readonly rule: string;
  readonly example: string;
  readonly accepts: (text: string) => boolean;
}

const isPort = (text: string): boolean => /^\d{1,5}$/.test(text) && Number(text) <= 65535;
const isDuration = (text: string): boolean => /^\d{1,9}$/.test(text);
const isHost = (text: string): boolean => /^[0-9a-zA-Z.:-]{1,255}$/.test(text);

/** It is written into Issuer of Patient ID of data sets in any character set. */
const isAuthority = (text: string): boolean => /^[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,62}[\x21-\x5b\x5d-\x7e])?$/.test(text);
const AUTHORITY_RULE = '1-64 ASCII characters (DICOM LO) without a backslash, so that every data set can hold it';

/** Every key, in the order in which `docs/operations.md` lists them. */
export const CONFIG_KEYS: readonly Key[] = [
  {
    env: 'MERIDIAN_NAME',
    file: 'name',
    fallback: 'This hospital',
    rule: 'must be 1-128 characters',
    example: 'Renji Hospital',
    accepts: (text) => text.length >= 1 && text.length <= 128,
  },
  {
    env: 'MERIDIAN_ASSIGNING_AUTHORITY',
    file: 'assigningAuthority',
    fallback: 'LOCAL',
    rule: `must be ${AUTHORITY_RULE}`,
    example: 'RENJI',
    accepts: isAuthority,
  },
  {
    env: 'MERIDIAN_AE_TITLE',
    file: 'aeTitle',
    fallback: 'MERIDIAN',
    rule: 'must be 1-16 characters (PS3.5 AE)',
    example: 'MERIDIAN',
    accepts: (text) => /^[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?$/.test(text),
  },
  { env: 'MERIDIAN_DIMSE_HOST', file: 'dimseHost', fallback: '127.0.0.1', rule: 'must be an address', example: '0.0.0.0', accepts: isHost },
  { env: 'MERIDIAN_DIMSE_PORT', file: 'dimsePort', fallback: '11112', rule: 'must be a port, 0-65535', example: '11112', accepts: isPort },
  {
    env: 'MERIDIAN_DIMSE_ASSOCIATIONS',
    file: 'dimseAssociations',
    fallback: '100',
    rule: 'must be a whole number',
    example: '100',
    accepts: (text) => /^[1-9]\d{0,3}$/.test(text),
  },
  {
    env: 'MERIDIAN_DIMSE_ASSOCIATIONS_PER_ADDRESS',
    file: 'dimseAssociationsPerAddress',
    fallback: '10',
    rule: 'must be a whole number',
    example: '10',
    accepts: (text) => /^[1-9]\d{0,3}$/.test(text),
  },
  { env: 'MERIDIAN_HTTP_HOST', file: 'httpHost', fallback: '127.0.0.1', rule: 'must be an address', example: '127.0.0.1', accepts: isHost },
  { env: 'MERIDIAN_HTTP_PORT', file: 'httpPort', fallback: '8080', rule: 'must be a port, 0-65535', example: '8080', accepts: isPort },
  { env: 'MERIDIAN_PEER_HOST', file: 'peerHost', fallback: '127.0.0.1', rule: 'must be an address', example: '0.0.0.0', accepts: isHost },
  { env: 'MERIDIAN_PEER_PORT', file: 'peerPort', fallback: '11443', rule: 'must be a port, 0-65535', example: '11443', accepts: isPort },
  {
    env: 'MERIDIAN_PEER_ANNOUNCE',
    file: 'peerAnnounce',
    fallback: '',
    rule: 'must be multiaddrs, separated by commas',
    example: '/dns4/node.hospital.example/tcp/11443',
    accepts: (text) => text.split(',').every((part) => part === '' || part.trim().startsWith('/')),
  },
  {
    env: 'MERIDIAN_QUIET_TIME_MS',
    file: 'quietTimeMs',
    fallback: '60000',
    rule: 'must be milliseconds',
    example: '60000',
    accepts: isDuration,
  },
  {
    env: 'MERIDIAN_RELEASED_QUIET_TIME_MS',
    file: 'releasedQuietTimeMs',
    fallback: '15000',
    rule: 'must be milliseconds',
    example: '15000',
    accepts: isDuration,
  },
  {
    env: 'MERIDIAN_MINIMUM_FREE_DISK',
    file: 'minimumFreeDisk',
    fallback: '0.05',
    rule: 'must be a share between 0 and 0.9',
    example: '0.05',
    accepts: (text) => /^0(\.\d+)?$/.test(text) && Number(text) <= 0.9,
  },
  {
    env: 'MERIDIAN_LOG_LEVEL',
    file: 'logLevel',
    fallback: 'info',
    rule: 'must be trace, debug, info, warn, error or silent',
    example: 'info',
    accepts: (text) => ['trace', 'debug', 'info', 'warn', 'error', 'silent'].includes(text),
  },
];

/**
 * A node's configuration: environment over `<folder>/meridian.json` over defaults.
 * @throws MeshError INVALID_ARGUMENT / CONFIG_INVALID with the key's name, what was found and an example.
 */
export function loadNodeConfig(source: { folder: string; env: Readonly<Record<string, string | undefined>> }): NodeConfig {
  const folder = resolve(source.folder);
  const file = readConfigFile(join(folder, 'meridian.json'));
  const values = new Map(CONFIG_KEYS.map((key) => [key.file, valueOf(key, source.env, file)]));
  const text = (name: string): string => values.get(name) ?? '';
  const number = (name: string): number => Number(text(name));
  return {
    folder,
    name: text('name'),
    assigningAuthority: text('assigningAuthority'),
    dimse: {
      host: text('dimseHost'),
      port: number('dimsePort'),
      aeTitle: text('aeTitle'),
      allow: readAeRules(file['allow']),
      maximumAssociations: number('dimseAssociations'),
      maximumAssociationsPerAddress: number('dimseAssociationsPerAddress'),
    },
    http: { host: text('httpHost'), port: number('httpPort') },
    peer: {
      host: text('peerHost'),
      port: number('peerPort'),
      announce: text('peerAnnounce')
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== ''),
    },
    quietTimeMs: number('quietTimeMs'),
    releasedQuietTimeMs: number('releasedQuietTimeMs'),
    minimumFreeDisk: number('minimumFreeDisk'),
    logLevel: text('logLevel'),
  };
}

function valueOf(key: Key, env: Readonly<Record<string, string | undefined>>, file: Readonly<Record<string, unknown>>): string {
  const fromFile = file[key.file];
  const found = env[key.env] ?? (fromFile === undefined ? undefined : textOf(fromFile));
  if (found === undefined) return key.fallback;
  if (!key.accepts(found)) throw invalid(`${key.env} ${key.rule}, got "${found.slice(0, 80)}". Example: ${key.example}`);
  return found;
}

/** A value of the file as an environment variable would say it: a list with commas between. */
function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.map(textOf).join(',');
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function readConfigFile(path: string): Readonly<Record<string, unknown>> {
  if (!existsSync(path)) return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'CONFIG_INVALID',
      `${path} is not valid JSON: ${cause instanceof Error ? cause.message : 'unreadable'}`,
      { cause },
    );
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw invalid(`${path} must hold one JSON object. Example: {"aeTitle": "MERIDIAN"}`);
  const known = new Set([...CONFIG_KEYS.map((key) => key.file), 'allow']);
  const unknown = Object.keys(parsed).find((key) => !known.has(key));
  if (unknown !== undefined)
    throw invalid(`${path} has a key "${unknown.slice(0, 40)}" that no node knows. Known: ${[...known].join(', ')}`);
  return parsed as Readonly<Record<string, unknown>>;
}

function readAeRules(value: unknown): readonly AeRule[] {
  if (value === undefined) return [];
  const example = '{"allow": [{"aeTitle": "CT1", "address": "192.0.2.10", "assigningAuthority": "RENJI"}]}';
  if (!Array.isArray(value)) throw invalid(`allow must be a list. Example: ${example}`);
  return value.map((entry: unknown, at) => {
    if (typeof entry !== 'object' || entry === null) throw invalid(`allow[${at}] must be an object. Example: ${example}`);
    const rule = entry as Record<string, unknown>;
    if (typeof rule['assigningAuthority'] !== 'string' || rule['assigningAuthority'] === '')
      throw invalid(`allow[${at}].assigningAuthority must name whose patient ids the sender uses. Example: ${example}`);
    if (!isAuthority(rule['assigningAuthority']))
      throw invalid(
        `allow[${at}].assigningAuthority must be ${AUTHORITY_RULE}, got "${rule['assigningAuthority'].slice(0, 80)}". Example: ${example}`,
      );
    if (rule['aeTitle'] === undefined && rule['address'] === undefined)
      throw invalid(`allow[${at}] must name an aeTitle, an address or both. Example: ${example}`);
    if (rule['nationalIdIn'] !== undefined && rule['nationalIdIn'] !== 'patient-id')
      throw invalid(`allow[${at}].nationalIdIn must be "patient-id" or absent, got "${textOf(rule['nationalIdIn']).slice(0, 40)}"`);
    return {
      assigningAuthority: rule['assigningAuthority'],
      ...(typeof rule['aeTitle'] === 'string' ? { aeTitle: rule['aeTitle'] } : {}),
      ...(typeof rule['address'] === 'string' ? { address: rule['address'] } : {}),
      ...(rule['nationalIdIn'] === 'patient-id' ? { nationalIdIn: 'patient-id' as const } : {}),
    };
  });
}

function invalid(message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', 'CONFIG_INVALID', message);
}
