import { BlockList, isIP } from 'node:net';
import { MeshError } from '@meridian/shared/errors';
import type { AssociateRequest } from './associate-request.ts';
import { REJECTIONS, type Rejection } from './pdu.ts';
import { APPLICATION_CONTEXT_UID } from './presentation-contexts.ts';

/** Who may associate, and whose patient ids such a source sends. A field that is absent admits any value. */
export interface AeRule {
  /** Calling AE title, 1 to 16 characters. */
  readonly aeTitle?: string;
  /** An IP address or a network such as `10.1.0.0/16`. */
  readonly address?: string;
  /** Authority of patient ids that carry no issuer of their own. */
  readonly assigningAuthority: string;
  /** The source writes the national id as PatientID. */
  readonly nationalIdIn?: 'patient-id';
}

/** What an admitted source's objects are stored under. */
export type Source = Pick<AeRule, 'assigningAuthority' | 'nationalIdIn'>;

/** Whether an association is accepted. */
export type Admission = { readonly admit: true; readonly source: Source } | { readonly admit: false; readonly rejection: Rejection };

/** Decides on a request from an address (IPv4 in dotted form). */
export type Admit = (request: AssociateRequest, address: string) => Admission;

/**
 * The door's rule: called title, then the first rule that fits address and calling title. AE titles prove nothing, so
 * without any rule only this machine itself is admitted.
 * @param own the hospital's title and the authority of ids that loopback peers send when there is no rule.
 * @throws MeshError INVALID_ARGUMENT / AE_TITLE_INVALID, AE_RULE_ADDRESS
 */
export function openAdmission(own: {
  readonly aeTitle: string;
  readonly assigningAuthority: string;
  readonly allow: readonly AeRule[];
}): Admit {
  const ourTitle = checkedTitle(own.aeTitle, 'AE title of this node');
  const rules = own.allow.map(compileRule);
  const sourceOf = (address: string, callingAeTitle: string): Source | undefined => {
    if (rules.length === 0) return isLoopback(address) ? { assigningAuthority: own.assigningAuthority } : undefined;
    return rules.find((rule) => rule.fits(address, callingAeTitle))?.source;
  };
  return (request, address) => {
    const reject = (rejection: Rejection): Admission => ({ admit: false, rejection });
    if ((request.protocolVersion & 1) === 0) return reject(REJECTIONS.versionUnknown);
    if (request.applicationContextUid !== APPLICATION_CONTEXT_UID) return reject(REJECTIONS.contextUnknown);
    if (request.calledAeTitle !== ourTitle) return reject(REJECTIONS.calledUnknown);
    const source = sourceOf(address, request.callingAeTitle);
    return source === undefined ? reject(REJECTIONS.callingUnknown) : { admit: true, source };
  };
}

/** True for 127.0.0.0/8 and ::1, however written. */
export function isLoopback(address: string): boolean {
  return contains(LOOPBACK, address);
}

/** An address without the IPv4-in-IPv6 prefix that dual-stack sockets show. */
export function plainAddress(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:(?=\d+\.)/i, '');
}

const LOOPBACK = networks(['127.0.0.0/8', '::1']);

function compileRule(rule: AeRule): { readonly source: Source; fits(address: string, callingAeTitle: string): boolean } {
  const title = rule.aeTitle === undefined ? undefined : checkedTitle(rule.aeTitle, 'AE title of an AE rule');
  const network = rule.address === undefined ? undefined : networks([rule.address]);
  return {
    source: {
      assigningAuthority: rule.assigningAuthority,
      ...(rule.nationalIdIn === undefined ? {} : { nationalIdIn: rule.nationalIdIn }),
    },
    fits: (address, callingAeTitle) =>
      (title === undefined || title === callingAeTitle) && (network === undefined || contains(network, address)),
  };
}

function networks(texts: readonly string[]): BlockList {
  const list = new BlockList();
  for (const text of texts) {
    const [address = '', prefix] = text.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    const longest = family === 'ipv6' ? 128 : 32;
    const bits = prefix === undefined ? longest : Number(prefix);
    if (isIP(address) === 0 || !/^\d{1,3}$/.test(prefix ?? '0') || bits > longest) {
      throw new MeshError(
        'INVALID_ARGUMENT',
        'AE_RULE_ADDRESS',
        `An AE rule's address must be an IP address or a network such as 10.1.0.0/16, got "${text}".`,
      );
    }
    list.addSubnet(address, bits, family);
  }
  return list;
}

function contains(list: BlockList, address: string): boolean {
  const version = isIP(address);
  return version !== 0 && list.check(address, version === 6 ? 'ipv6' : 'ipv4');
}

/** PS3.5 6.2 AE: 1 to 16 characters of the default repertoire, no backslash, no control characters. */
function checkedTitle(text: string, what: string): string {
  const title = text.trim();
  if (!/^[\x20-\x5b\x5d-\x7e]{1,16}$/.test(title)) {
    throw new MeshError(
      'INVALID_ARGUMENT',
      'AE_TITLE_INVALID',
      `The ${what} must be 1-16 characters without a backslash (PS3.5 AE), got ${title.length} characters.`,
    );
  }
  return title;
}
