import type { AuditLog } from '@meridian/shared/audit-log';
import { MeshError } from '@meridian/shared/errors';
import { encodeBase32, nodeIdFrom, parseNodeId, sha256, type NodeId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import type { IndexDatabase, IndexTransaction } from '../tables.ts';
import type { HospitalStatus } from './tables.ts';
import type { TrustKeeper } from './trust-keeper.ts';

/** How long a join code is good for. */
export const JOIN_CODE_LIFETIME_MS = 72 * 3_600_000;
const CODE_BYTES = 16;
const MAX_NAME_LENGTH = 120;

/** A hospital as the operator sees it. */
export interface HospitalRow {
  readonly nodeId: NodeId;
  readonly name: string;
  readonly segment: string;
  readonly status: HospitalStatus;
  readonly aeTitle: string;
  readonly joinedAtEpochMs: number | undefined;
  readonly certifiedUntilEpochMs: number | undefined;
}

/** What the operator does with hospitals. */
export interface Hospitals {
  /**
   * A new hospital, or with `nodeId` a new code for one that lost its keys or let its code run out.
   * @returns the one-time code, which is shown once and kept as a hash only.
   * @throws MeshError INVALID_ARGUMENT / HOSPITAL_NAME_INVALID, NOT_FOUND / NODE_UNKNOWN, FAILED_PRECONDITION / NODE_NOT_ACTIVE
   */
  invite(
    hospital: { readonly name: string; readonly segment?: string; readonly backfillBudget?: number } | { readonly nodeId: string },
  ): Promise<{ nodeId: NodeId; code: string; expiresAtEpochMs: number }>;
  list(): Promise<HospitalRow[]>;
  /** @throws MeshError NOT_FOUND / NODE_UNKNOWN, FAILED_PRECONDITION / NODE_NOT_ACTIVE */
  setStatus(nodeId: string, status: 'active' | 'suspended' | 'revoked'): Promise<void>;
}

/** The operator's side of the registry. */
export function openHospitals(parts: {
  readonly database: IndexDatabase;
  readonly keeper: TrustKeeper;
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly random: Random;
}): Hospitals {
  const { database, keeper, audit, clock, random } = parts;
  const addCode = async (
    transaction: IndexTransaction,
    nodeId: NodeId,
  ): Promise<{ nodeId: NodeId; code: string; expiresAtEpochMs: number }> => {
    const code = encodeBase32(random.bytes(CODE_BYTES)).toUpperCase();
    const expiresAtEpochMs = clock.now() + JOIN_CODE_LIFETIME_MS;
    // No older code stays beside the new one. A used one would answer its request again, and with it bring back the keys that were lost.
    await transaction.deleteFrom('join_code').where('node_id', '=', nodeId).execute();
    await transaction
      .insertInto('join_code')
      .values({
        code_sha256: sha256(code),
        node_id: nodeId,
        created_at: clock.now(),
        expires_at: expiresAtEpochMs,
        used_at: null,
        request_sha256: null,
      })
      .execute();
    return { nodeId, code, expiresAtEpochMs };
  };
  return {
    invite: async (hospital) => {
      const nodeId = 'nodeId' in hospital ? parseNodeId(hospital.nodeId) : nodeIdFrom(random.bytes(10));
      await audit.append({ type: 'ADMIN', peer: nodeId, reason: 'HOSPITAL_INVITED' });
      return database.write.transaction().execute(async (transaction) => {
        if ('nodeId' in hospital) {
          const { status } = await hospitalOf(transaction, nodeId);
          if (status === 'revoked') throw notActive('This hospital was removed from the federation. Add it as a new one.');
        } else {
          const name = checkName(hospital.name, 'name');
          const segment = checkName(hospital.segment ?? 'all', 'segment');
          await transaction
            .insertInto('hospital')
            .values({
              node_id: nodeId,
              name,
              segment,
              status: 'invited',
              peer_id: null,
              signing_public_key: null,
              addresses: '[]',
              ae_title: '',
              created_at: clock.now(),
              joined_at: null,
              certified_until: null,
              backfill_remaining: hospital.backfillBudget ?? 0,
            })
            .execute();
        }
        return addCode(transaction, nodeId);
      });
    },
    list: async () => {
      const rows = await database.read.selectFrom('hospital').selectAll().orderBy('created_at').orderBy('node_id').execute();
      return rows.map((row) => ({
        nodeId: row.node_id as NodeId,
        name: row.name,
        segment: row.segment,
        status: row.status,
        aeTitle: row.ae_title,
        joinedAtEpochMs: row.joined_at ?? undefined,
        certifiedUntilEpochMs: row.certified_until ?? undefined,
      }));
    },
    setStatus: async (text, status) => {
      const nodeId = parseNodeId(text);
      await audit.append({ type: status === 'active' ? 'ADMIN' : 'REVOKE', peer: nodeId, reason: `NODE_${status.toUpperCase()}` });
      const before = await hospitalOf(database.read, nodeId);
      if (before.status === 'invited') {
        if (status !== 'revoked') throw notActive('This hospital has not joined yet.');
        await database.write.transaction().execute(async (transaction) => {
          await transaction.deleteFrom('join_code').where('node_id', '=', nodeId).execute();
          await transaction.deleteFrom('hospital').where('node_id', '=', nodeId).where('status', '=', 'invited').execute();
        });
        return;
      }
      if (before.status === 'revoked' && status !== 'revoked')
        throw notActive('This hospital was removed from the federation, which is final. Add it as a new one.');
      await keeper.change(async (transaction) => {
        await transaction.updateTable('hospital').set({ status }).where('node_id', '=', nodeId).execute();
        return { changed: [nodeId], result: undefined };
      });
    },
  };
}

async function hospitalOf(connection: Pick<IndexTransaction, 'selectFrom'>, nodeId: NodeId): Promise<{ status: HospitalStatus }> {
  const row = await connection.selectFrom('hospital').select('status').where('node_id', '=', nodeId).executeTakeFirst();
  if (row === undefined)
    throw new MeshError('NOT_FOUND', 'NODE_UNKNOWN', 'No hospital has this node id. `meridian-index hospital list` shows all.');
  return row;
}

function checkName(text: string, what: string): string {
  const name = text.normalize('NFC').trim();
  // eslint-disable-next-line no-control-regex
  if (name.length >= 1 && name.length <= MAX_NAME_LENGTH && !/[\u0000-\u001f\u007f]/.test(name)) return name;
  throw new MeshError(
    'INVALID_ARGUMENT',
    'HOSPITAL_NAME_INVALID',
    `The ${what} of a hospital must be 1 to ${MAX_NAME_LENGTH} characters, for example "Peking Union".`,
  );
}

function notActive(message: string): MeshError {
  return new MeshError('FAILED_PRECONDITION', 'NODE_NOT_ACTIVE', message);
}
