import { MeshError } from '@meridian/shared/errors';
import type { ConsentStatement } from '@meridian/shared/consent';
import { maskPersonId, parseNodeId, type NodeId } from '@meridian/shared/identifiers';
import { silentLog } from '@meridian/shared/log';
import { systemClock } from '@meridian/shared/platform/clock';
import { systemRandom } from '@meridian/shared/platform/random';
import { openHttp, type HttpServer } from '../../http/http-server.ts';
import type { Store } from '../../store/store.ts';
import type { PortalParts } from '../parts.ts';
import { openPortal } from '../portal.ts';

/** A valid resident id (GB 11643) of nobody. */
export const RESIDENT_ID = '11010519491231002X';
export const SELF: NodeId = parseNodeId('n-aaaaaaaaaaaaaaaa');
export const OTHER: NodeId = parseNodeId('n-bbbbbbbbbbbbbbbb');
/** The fake holder has one study that is shared, one that is not. */
export const SHARED_STUDY = '1.2.840.1';
export const UNSHARED_STUDY = '1.2.840.2';

/** A portal on a real listener over a real store; what needs other hospitals is played. */
export async function withPortal(
  store: Store,
  change: Partial<PortalParts>,
  work: (context: { http: HttpServer; api: string }) => Promise<void>,
): Promise<void> {
  const http = await openHttp({ host: '127.0.0.1', port: 0, log: silentLog });
  const portal = openPortal({ ...partsOver(store), ...change });
  try {
    await http.mount(portal.plugin);
    await http.ready();
    await work({ http, api: `${http.address}/api/v1` });
  } finally {
    await portal.close();
    await http.close();
  }
}

function partsOver(store: Store): PortalParts {
  const statements: ConsentStatement[] = [];
  return {
    hospitalName: 'Renji',
    nodeId: SELF,
    version: '0.1.0',
    aeTitle: 'RENJI',
    ports: () => ({ dimse: 11112 }),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    usage: () => store.usage(),
    indexState: () => ({ state: 'connected', sinceEpochMs: 1_800_000_000_000 }),
    hospitals: () => [
      { nodeId: SELF, name: 'Renji' },
      { nodeId: OTHER, name: 'Huashan' },
    ],
    history: {
      patientHistory: async ({ personId }) => ({
        person: maskPersonId(personId),
        studies: [
          {
            studyInstanceUid: SHARED_STUDY,
            studyDate: '20260102',
            modalities: ['CT'],
            instanceCount: 3,
            holders: [{ nodeId: OTHER, name: 'Huashan', self: false }],
            held: 'no',
            consent: 'allowed',
          },
        ],
        coverage: {
          asked: 3,
          answered: 2,
          notAsked: 1,
          indexReachable: true,
          answeredAtEpochMs: 1_800_000_000_000,
          nodes: [
            { nodeId: SELF, name: 'Renji', state: 'self' },
            { nodeId: OTHER, name: 'Huashan', state: 'current' },
            { nodeId: 'n-c', name: 'Yunling', state: 'not-asked' },
          ],
        },
      }),
    },
    transfers: { fetch: playFetch },
    consent: {
      record: async ({ provision, validForMs, clerk }) => {
        const now = Date.now();
        const statement: ConsentStatement = {
          hash: 'aa',
          compact: 'x.y.z',
          writer: SELF,
          seq: statements.length + 1,
          consentId: `c-${statements.length}`,
          patientKeys: [{ key: 'secret-pseudonym', epoch: '1' }],
          status: 'active',
          provision,
          issuedAtEpochMs: now,
          validFromEpochMs: now,
          validUntilEpochMs: now + validForMs,
          basis: 'operator-recorded',
          clerk,
          causes: [],
        };
        statements.push(statement);
        return statement;
      },
      revoke: async (target) => {
        const found = statements.filter(
          (one) => one.status === 'active' && (!('consentId' in target) || one.consentId === target.consentId),
        );
        if (found.length === 0) throw new MeshError('NOT_FOUND', 'CONSENT_UNKNOWN', 'No such consent is in force.');
        statements.push(...found.map((one, at) => ({ ...one, status: 'revoked' as const, seq: statements.length + at + 1 })));
        return found;
      },
      list: async () => statements,
    },
    importFolder: () => Promise.reject(new Error('not used')),
    quarantine: async () => [],
    doctorFacts: async () => ({
      nowEpochMs: Date.now(),
      running: true,
      joined: true,
      quarantined: 2,
      index: { state: 'unreachable', sinceEpochMs: Date.now() },
      disk: { freeBytes: 90, totalBytes: 100, readOnly: false },
    }),
  };
}

/** Three images; the unshared study is refused; a study "slow" goes on until it is cancelled. */
const playFetch: NonNullable<PortalParts['transfers']>['fetch'] = async ({ studyInstanceUid, signal, onProgress }) => {
  if (studyInstanceUid === UNSHARED_STUDY) throw new MeshError('PERMISSION_DENIED', 'NO_CONSENT', 'No consent covers this study.');
  for (let verified = 1; verified <= 3; verified++) {
    onProgress({ instancesVerified: verified, instancesTotal: 3, bytesVerified: verified * 10, bytesTotal: 30 });
    await systemClock.sleep(5, signal);
  }
  if (studyInstanceUid !== SHARED_STUDY) await systemClock.sleep(60_000, signal);
  return { instances: 3, bytes: 30, resumedInstances: 0, digestMismatches: 0 };
};
