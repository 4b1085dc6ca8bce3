import { join } from 'node:path';
import {
  openConsent as openConsentStatement,
  readConsent,
  signConsent,
  type ConsentClaims,
  type ConsentProvision,
  type ConsentStatement,
} from '@meridian/shared/consent';
import { openSqlite } from '@meridian/shared/database';
import { asMeshError, MeshError } from '@meridian/shared/errors';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import type { SubscribeResponse } from '@meridian/shared/generated/meridian/v1/push';
import { NodeStatus } from '@meridian/shared/generated/meridian/v1/trust';
import { CLOCK_TOLERANCE_MS, type GrantCheck } from '@meridian/shared/grant';
import type { NodeId, TypedPersonId } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import { openQueue } from '@meridian/shared/queue';
import { signingKeysOf } from '@meridian/shared/trust-list';
import type { AuditEvent } from '../audit/node-audit.ts';
import { consentMigrations, type ConsentSchema, type DenialKind } from './consent-tables.ts';
import { isToBeKept } from './delivered.ts';
import { nodesToTell } from './nodes-to-tell.ts';
import { decideGrant, type Presented } from './decide.ts';
import type { ConsentParts } from './parts.ts';
import { signedByFormerKey } from './sign-anew.ts';
import { insertStatement, statedKeys, statementsOf, type StatedPatientKey } from './statements.ts';

/** What a clerk records. */
export interface ConsentRecord {
  readonly personId: TypedPersonId;
  readonly provision: ConsentProvision;
  /** From now, milliseconds. */
  readonly validForMs: number;
  readonly clerk: string;
  /** Hex SHA-256 of the signed form, which stays here. */
  readonly formHash?: string;
  /** `refused` keeps a patient's no; a consent unless given. */
  readonly status?: 'active' | 'refused';
}

/** A revocation that was signed here, and whom to tell directly beside the index. */
export interface Revocation {
  readonly statement: ConsentStatement;
  readonly holders: readonly NodeId[];
}

/** What a hospital refuses on its own account. */
export interface Denial {
  readonly kind: DenialKind;
  readonly value: string;
}

/** Consents as this node knows them, and its own decision as a holder. */
export interface Consent {
  /**
   * Signs and keeps a statement and sends it to the index, at once or when it is back.
   * @throws MeshError UNAVAILABLE / PATIENT_KEY_UNAVAILABLE for a person who is new here while the index is down,
   *   INVALID_ARGUMENT / CONSENT_MALFORMED; RESOURCE_EXHAUSTED / AUDIT_UNWRITABLE for what opens access, never for a refusal
   */
  record(record: ConsentRecord): Promise<ConsentStatement>;
  /**
   * Revokes one consent, or everything that a person has in force. Final; needs no index for what is known here.
   * @throws MeshError NOT_FOUND / CONSENT_UNKNOWN
   */
  revoke(
    target: { readonly consentId: string; readonly clerk?: string } | { readonly personId: TypedPersonId; readonly clerk?: string },
  ): Promise<Revocation[]>;
  /** Every statement of a person, under all ids of it that are known here: what is known here and, where it answers, what the index knows. */
  list(personId: TypedPersonId): Promise<ConsentStatement[]>;
  /**
   * Takes a statement from the index or another node, after its writer's signature was checked.
   * @throws MeshError PERMISSION_DENIED / CONSENT_SIGNER_UNKNOWN, UNAUTHENTICATED / CONSENT_SIGNATURE, INVALID_ARGUMENT / CONSENT_MALFORMED
   */
  receive(compact: string): Promise<ConsentStatement>;
  /** Takes a statement that another node hands over, as {@link Consent.receive}, if it is of anybody known here or closes; see {@link isToBeKept}. */
  delivered(compact: string): Promise<void>;
  /** A listener for {@link Federation.onPush}: takes consent statements, logs and passes over those that do not hold. */
  readonly pushed: (event: SubscribeResponse) => Promise<void>;
  /** The holder's decision about a grant; writes no audit event: the transfer does, before it sends. */
  decide(compact: string, presented: Presented): Promise<GrantCheck>;
  knownFor(patientKeys: readonly PatientKey[]): Promise<ConsentStatement[]>;
  /** The statement with this hash and all that are known here of its consent and its patient; none where it is unknown. Asks nobody. */
  related(hash: string): Promise<ConsentStatement[]>;
  /**
   * Called once for every revocation or refusal, from here or elsewhere, after it is durable; and again when it comes again
   * while a copy that rests on the consent is still open. @returns a function that ends it.
   */
  onRevoked(listener: (statement: ConsentStatement) => void): () => void;
  /** Refuses on the hospital's own account, from now on; what runs is ended through {@link Consent.onDenied}. */
  deny(denial: Denial & { readonly reason: string }): Promise<void>;
  /** Called for every denial, after it is durable. @returns a function that ends it. */
  onDenied(listener: (denial: Denial) => void): () => void;
  undeny(denial: Denial): Promise<void>;
  denials(): Promise<{ kind: DenialKind; value: string; reason: string; atEpochMs: number }[]>;
  /** Statements that the index has not taken yet, and those that it refused. */
  outbox(): Promise<{ pending: number; refused: number }>;
  /** Resolves when nothing can be sent for now. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

const OUTBOX = 'consent-outbox';
const AUDITS = 'consent-audit';
const MAX_CAUSES = 64;
/** Patient keys of one statement or one question to the index. */
const MAX_KEYS = 8;

/** Opens the consent room of a node that has joined. */
export async function openConsent(parts: ConsentParts): Promise<Consent> {
  const { federation, audit, clock, random } = parts;
  const log = parts.log.child({ room: 'consent' });
  const database = await openSqlite<ConsentSchema>({
    file: join(parts.folder, 'consent.sqlite'),
    migrations: consentMigrations,
    readers: 1,
  });
  const listeners = new Set<(statement: ConsentStatement) => void>();
  const denialListeners = new Set<(denial: Denial) => void>();
  const outbox = await openQueue<{ compact: string }>({
    database,
    topic: OUTBOX,
    clock,
    log,
    order: 'strict',
    timeoutMs: 20_000,
    firstRetryMs: 500,
    maxRetryMs: 5_000,
    // What the index refuses for good must not hold up the revocation behind it.
    isPermanent: (error) =>
      ['INVALID_ARGUMENT', 'PERMISSION_DENIED', 'UNAUTHENTICATED', 'FAILED_PRECONDITION'].includes(error.code) &&
      error.reason.startsWith('CONSENT_'),
    handler: async ({ payload }, signal) =>
      void (await federation.channel.call('consent', 'recordConsent', { statement: { compact: payload.compact } }, { signal })),
  });
  // What opens is audited before it counts; what closes counts at once, and is written down as soon as the log can be written.
  const audits = await openQueue<AuditEvent>({
    database,
    topic: AUDITS,
    clock,
    log,
    order: 'strict',
    firstRetryMs: 500,
    maxRetryMs: 5_000,
    isPermanent: (error) => error.reason === 'AUDIT_EVENT_TOO_LARGE',
    handler: ({ payload }) => audit.append(payload),
  });
  const tell = <Item>(to: ReadonlySet<(item: Item) => void>, item: Item): void => {
    for (const listener of to) {
      try {
        listener(item);
      } catch (thrown) {
        log.error({ event: 'consent-listener-failed', err: thrown });
      }
    }
  };
  const announce = async (statement: ConsentStatement): Promise<void> => {
    if (statement.status === 'active') return;
    tell(listeners, statement);
    audits.wake();
    await audits.idle();
  };

  /** Number, signature, row and outbox in one transaction: a number is never given twice. */
  const write = async (
    claims: Omit<ConsentClaims, 'seq' | 'causes' | 'writer' | 'basis' | 'issuedAtEpochMs'>,
  ): Promise<ConsentStatement> => {
    const seen = await statementsOf(database, claims.patientKeys, [claims.consentId]);
    const statement = await database.write.transaction().execute(async (transaction) => {
      const last = await transaction.selectFrom('own_seq').select('seq').executeTakeFirst();
      // Never below the clock: a database restored from a backup does not give a number again.
      const seq = Math.max((last?.seq ?? 0) + 1, Math.floor(clock.now() / 1000));
      await transaction
        .insertInto('own_seq')
        .values({ one: 1, seq })
        .onConflict((conflict) => conflict.column('one').doUpdateSet({ seq }))
        .execute();
      const causes = seen.slice(-MAX_CAUSES).map(({ hash }) => hash);
      const signed = readConsent(
        signConsent(
          { ...claims, writer: federation.nodeId, seq, basis: 'operator-recorded', issuedAtEpochMs: clock.now(), causes },
          federation.signingKey,
        ),
      );
      const event = {
        type: signed.status === 'revoked' ? 'REVOKE' : 'CONSENT',
        subject: signed.clerk,
        detail: { consent: signed.hash, consentId: signed.consentId, status: signed.status },
      } as const;
      if (signed.status === 'active') await audit.append(event);
      else await audits.enqueue(event, { key: signed.hash, within: transaction as never });
      await insertStatement(transaction, signed, clock.now());
      await outbox.enqueue({ compact: signed.compact }, { key: signed.hash, within: transaction as never });
      return signed;
    });
    outbox.wake();
    await announce(statement);
    return statement;
  };

  /** After a join with new keys. What cannot be signed now, for the log cannot be written, is signed at the next start. */
  const signAnew = async (): Promise<void> => {
    try {
      const former = await signedByFormerKey(database, {
        nodeId: federation.nodeId,
        keyId: federation.signingKey.keyId,
        nowEpochMs: clock.now(),
      });
      let signed = 0;
      for (const { consentId, patientKeys, status, provision, validFromEpochMs, validUntilEpochMs, clerk, formHash } of former) {
        // A new statement would be one that was given after the refusal: only the patient can do that.
        if ((await statementsOf(database, patientKeys)).some((known) => known.status === 'refused')) continue;
        signed += 1;
        await write({
          consentId,
          patientKeys,
          status,
          provision,
          validFromEpochMs,
          validUntilEpochMs,
          clerk,
          ...(formHash === undefined ? {} : { formHash }),
        });
      }
      if (former.length > 0)
        log.warn(
          { event: 'consents-signed-anew', consents: signed, leftForThePatient: former.length - signed },
          'this node joined again with a new key: the consents that it recorded are signed anew, but for patients who refused since',
        );
    } catch (thrown) {
      log.error({ event: 'consents-not-signed-anew', err: thrown });
    }
  };

  const refresh = async (keys: readonly PatientKey[]): Promise<void> => {
    try {
      const { statements } = await federation.channel.call('consent', 'listConsents', { patientKeys: [...keys] }, { deadlineMs: 5_000 });
      for (const { compact } of statements) await receive(compact).catch((thrown: unknown) => refusedFromOutside(log, thrown));
    } catch (thrown) {
      const error = asMeshError(thrown);
      if (error.code !== 'UNAVAILABLE' && error.code !== 'DEADLINE_EXCEEDED') throw error;
      log.info({ event: 'consents-from-here-alone', reason: error.reason });
    }
  };

  const receive = async (compact: string): Promise<ConsentStatement> => {
    const claimed = readConsent(compact);
    const entry = federation.entryOf(claimed.writer);
    if (entry === undefined || entry.status !== NodeStatus.NODE_STATUS_ACTIVE) {
      throw new MeshError(
        'PERMISSION_DENIED',
        'CONSENT_SIGNER_UNKNOWN',
        'This consent statement names a writer that is no active member of the federation. It was not taken.',
      );
    }
    // A key that was replaced may still close what it opened; it opens nothing.
    const statement = openConsentStatement(
      compact,
      signingKeysOf(entry, claimed.status === 'active' ? clock.now() : claimed.issuedAtEpochMs),
    );
    const known = await database.read.selectFrom('consent_statement').select('hash').where('hash', '=', statement.hash).executeTakeFirst();
    if (known !== undefined) {
      if (
        statement.status !== 'active' &&
        (await hasOpenCopies(parts, await statementsOf(database, statement.patientKeys, [statement.consentId])))
      )
        tell(listeners, statement);
      return statement;
    }
    const isNew = await database.write.transaction().execute(async (transaction) => {
      if (!(await insertStatement(transaction, statement, clock.now()))) return false;
      const event = {
        type: 'REVOKE',
        peer: statement.writer,
        detail: { consent: statement.hash, consentId: statement.consentId, status: statement.status },
      } as const;
      if (statement.status !== 'active') await audits.enqueue(event, { key: statement.hash, within: transaction as never });
      return true;
    });
    if (isNew) await announce(statement);
    return statement;
  };

  const revokeOne = async (consentId: string, statements: readonly ConsentStatement[], clerk: string | undefined): Promise<Revocation> => {
    const own = statements.filter((statement) => statement.consentId === consentId);
    const revoked = own.find(({ status }) => status === 'revoked');
    const last = own.findLast(({ status }) => status !== 'revoked') ?? own.at(-1);
    if (last === undefined) throw unknownConsent();
    const keys = new Map<string, StatedPatientKey>(
      own.flatMap(({ patientKeys }) => patientKeys.map((key) => [`${key.epoch} ${key.key}`, key])),
    );
    const statement =
      revoked ??
      (await write({
        consentId,
        patientKeys: [...keys.values()].slice(0, MAX_KEYS),
        status: 'revoked',
        provision: last.provision,
        validFromEpochMs: Math.min(clock.now() - CLOCK_TOLERANCE_MS, last.validFromEpochMs),
        validUntilEpochMs: Math.max(last.validUntilEpochMs, clock.now() + 1),
        clerk: clerk ?? last.clerk,
      }));
    return { statement, holders: await nodesToTell(parts, own) };
  };

  const consent: Consent = {
    record: async ({ personId, provision, validForMs, clerk, formHash, status }) => {
      // A no counts under every id of the person that is known here; a consent opens no more than what was asked.
      const patientKeys = statedKeys(
        status === 'refused' ? (await allKeysOf(parts, personId)).slice(0, MAX_KEYS) : await federation.patientKeys([personId]),
      );
      return write({
        consentId: random.uuid(),
        patientKeys,
        status: status ?? 'active',
        provision,
        // A holder whose clock is behind must not find it in the future.
        validFromEpochMs: clock.now() - CLOCK_TOLERANCE_MS,
        validUntilEpochMs: clock.now() + validForMs,
        clerk,
        ...(formHash === undefined ? {} : { formHash }),
      });
    },
    revoke: async (target) => {
      if ('consentId' in target)
        return [await revokeOne(target.consentId, await statementsOf(database, [], [target.consentId]), target.clerk)];
      const statements = await consent.list(target.personId);
      const ended = new Set(statements.filter(({ status }) => status === 'revoked').map(({ consentId }) => consentId));
      const open = new Set(
        statements.filter(({ status, consentId }) => status === 'active' && !ended.has(consentId)).map(({ consentId }) => consentId),
      );
      if (open.size === 0) throw unknownConsent();
      const revocations: Revocation[] = [];
      for (const consentId of open) revocations.push(await revokeOne(consentId, statements, target.clerk));
      return revocations;
    },
    list: async (personId) => {
      const keys = await allKeysOf(parts, personId);
      await refresh(keys.slice(0, MAX_KEYS));
      const found = await statementsOf(database, statedKeys(keys));
      return statementsOf(database, [...statedKeys(keys), ...found.flatMap(({ patientKeys }) => patientKeys)]);
    },
    receive,
    delivered: async (compact) => {
      if (await isToBeKept(database, readConsent(compact))) await receive(compact);
    },
    pushed: async ({ event }) => {
      if (event?.$case === 'consentStatement')
        await receive(event.value.compact).catch((thrown: unknown) => refusedFromOutside(log, thrown));
    },
    decide: (compact, presented) => decideGrant({ ...parts, log, database }, compact, presented),
    knownFor: (patientKeys) => statementsOf(database, statedKeys(patientKeys)),
    related: async (hash) => {
      const row = await database.read.selectFrom('consent_statement').select('compact').where('hash', '=', hash).executeTakeFirst();
      if (row === undefined) return [];
      const { patientKeys, consentId } = readConsent(row.compact);
      return statementsOf(database, patientKeys, [consentId]);
    },
    onRevoked: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    deny: async ({ kind, value, reason }) => {
      await database.write.transaction().execute(async (transaction) => {
        await transaction
          .insertInto('denial')
          .values({ kind, value, reason, at_epoch_ms: clock.now() })
          .onConflict((conflict) => conflict.columns(['kind', 'value']).doUpdateSet({ reason }))
          .execute();
        await audits.enqueue(
          { type: 'ADMIN', reason, detail: { deny: kind, value } },
          { key: random.uuid(), within: transaction as never },
        );
      });
      tell(denialListeners, { kind, value });
      audits.wake();
      await audits.idle();
    },
    onDenied: (listener) => {
      denialListeners.add(listener);
      return () => denialListeners.delete(listener);
    },
    undeny: async ({ kind, value }) => {
      await audit.append({ type: 'ADMIN', detail: { undeny: kind, value } });
      await database.write.deleteFrom('denial').where('kind', '=', kind).where('value', '=', value).execute();
    },
    denials: async () => {
      const rows = await database.read.selectFrom('denial').selectAll().orderBy('at_epoch_ms').execute();
      return rows.map(({ at_epoch_ms: atEpochMs, ...row }) => ({ ...row, atEpochMs }));
    },
    outbox: async () => ({ pending: (await outbox.pending()).length, refused: (await outbox.dead()).length }),
    settle: () => outbox.idle(),
    close: async () => {
      await outbox.close();
      await audits.close();
      await database.close();
    },
  };
  await signAnew();
  return consent;
}

/** Whether a copy that rests on one of these statements may still be read: the node may have died before it was locked. */
async function hasOpenCopies({ store }: ConsentParts, statements: readonly ConsentStatement[]): Promise<boolean> {
  const row = await store.database.read
    .selectFrom('fetched_study')
    .select('study_instance_uid')
    .where('locked', '=', 0)
    .where(
      'consent_hash',
      'in',
      statements.map(({ hash }) => hash),
    )
    .executeTakeFirst();
  return row !== undefined;
}

/** Keys of the person under the id that is asked for and, as far as they are known here, under the other ids of its patients in this hospital. */
async function allKeysOf({ federation, store }: ConsentParts, personId: TypedPersonId): Promise<PatientKey[]> {
  const asked = await federation.patientKeys([personId]);
  // What a copy says of its patient is another hospital's word.
  const own = (await store.studies.studiesOfPerson(personId)).filter(({ copyOf }) => copyOf === undefined);
  const others = await federation.knownPatientKeys([personId, ...own.flatMap(({ personIds }) => personIds)]);
  return [...new Map([...asked, ...others].map((key) => [`${key.epoch} ${Buffer.from(key.key).toString('base64url')}`, key])).values()];
}

/** A statement that does not hold is no reason to stop; anything else is. */
function refusedFromOutside(log: Logger, thrown: unknown): void {
  const error = asMeshError(thrown);
  if (!['INVALID_ARGUMENT', 'PERMISSION_DENIED', 'UNAUTHENTICATED'].includes(error.code)) throw error;
  log.warn({ event: 'consent-statement-refused', code: error.code, reason: error.reason });
}

function unknownConsent(): MeshError {
  return new MeshError(
    'NOT_FOUND',
    'CONSENT_UNKNOWN',
    'There is no such consent in force that this hospital knows of. `meridian consent list` shows those of a person.',
  );
}
