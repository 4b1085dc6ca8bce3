import { createHmac } from 'node:crypto';
import { MeshError } from '@meridian/shared/errors';
import type { PatientKey } from '@meridian/shared/generated/meridian/v1/common';
import { normalisedPersonId, type TypedPersonId } from '@meridian/shared/identifiers';
import type { Clock } from '@meridian/shared/platform/clock';
import type { Random } from '@meridian/shared/platform/random';
import { blindPersonIds } from '@meridian/shared/voprf';
import { readSetting, writeSetting, type FederationDatabase } from './federation-tables.ts';
import type { IndexChannel } from './index-channel.ts';

/** Blinded pseudonyms of persons, asked once and kept. */
export interface PatientKeys {
  /**
   * One key for each id, in order, under the evaluator's current epoch as last learnt.
   * Keys that were learnt before need no index.
   * @throws MeshError UNAVAILABLE / PATIENT_KEY_UNAVAILABLE where an id is new and the index cannot be reached,
   *   RESOURCE_EXHAUSTED / EVALUATION_QUOTA, DATA_LOSS / EVALUATION_PROOF_INVALID
   */
  readonly patientKeys: (ids: readonly TypedPersonId[], signal?: AbortSignal) => Promise<PatientKey[]>;
  /** Every key that was ever learnt for these ids, of all epochs; asks nobody. */
  readonly knownPatientKeys: (ids: readonly TypedPersonId[]) => Promise<PatientKey[]>;
}

/** Few at once: blinding and checking cost about 5 ms of this thread each. */
const BATCH = 16;
const EPOCH = 'evaluator-epoch';
const PUBLIC_KEY = 'evaluator-public-key';

interface Evaluator {
  readonly epoch: string;
  readonly publicKey: Buffer;
}

/**
 * Opens the patient keys of a node.
 * @param parts.secret keys the cache: a stolen database without it cannot be searched by person id.
 * @param parts.first the evaluator as it was at the join.
 */
export function openPatientKeys(parts: {
  channel: IndexChannel;
  database: FederationDatabase;
  secret: Uint8Array;
  first: Evaluator;
  clock: Clock;
  random: Random;
}): PatientKeys {
  const { channel, database, random } = parts;

  const evaluator = async (): Promise<Evaluator> => {
    const [epoch, publicKey] = [await readSetting(database, EPOCH), await readSetting(database, PUBLIC_KEY)];
    return epoch === undefined || publicKey === undefined ? parts.first : { epoch, publicKey: Buffer.from(publicKey, 'hex') };
  };
  const learnEvaluator = async (signal: AbortSignal | undefined): Promise<Evaluator> => {
    const answer = await channel.call('evaluator', 'getKeys', {}, { signal });
    const key = answer.keys.find(({ epoch }) => epoch === answer.currentEpoch);
    if (key === undefined)
      throw new MeshError(
        'DATA_LOSS',
        'EVALUATION_PROOF_INVALID',
        'The evaluator names a key epoch that it does not publish. Tell the operator of the index.',
      );
    await writeSetting(database, PUBLIC_KEY, key.publicKey.toString('hex'));
    await writeSetting(database, EPOCH, key.epoch);
    return key;
  };
  const evaluate = async (ids: readonly TypedPersonId[], under: Evaluator, signal: AbortSignal | undefined): Promise<Buffer[]> => {
    const batch = blindPersonIds(ids, random);
    const answer = await channel.call(
      'evaluator',
      'evaluate',
      { epoch: under.epoch, blindedElements: batch.blinded },
      { deadlineMs: 30_000, signal },
    );
    return batch.finalize(answer.evaluatedElements, answer.proof, under.publicKey);
  };
  const macOf = (id: TypedPersonId): Buffer => createHmac('sha256', parts.secret).update(normalisedPersonId(id)).digest();

  const keysUnder = async (under: Evaluator, ids: readonly TypedPersonId[], signal: AbortSignal | undefined): Promise<PatientKey[]> => {
    const macs = ids.map(macOf);
    const known = new Map<string, Buffer>();
    if (macs.length > 0) {
      const rows = await database.read
        .selectFrom('patient_key')
        .select(['id_mac', 'patient_key'])
        .where('epoch', '=', under.epoch)
        .where('id_mac', 'in', macs)
        .execute();
      for (const row of rows) known.set(Buffer.from(row.id_mac).toString('hex'), Buffer.from(row.patient_key));
    }
    const missing = new Map<string, TypedPersonId>();
    ids.forEach((id, place) => {
      const mac = (macs[place] as Buffer).toString('hex');
      if (!known.has(mac)) missing.set(mac, id);
    });
    const open = [...missing];
    for (let start = 0; start < open.length; start += BATCH) {
      const batch = open.slice(start, start + BATCH);
      const keys = await evaluate(
        batch.map(([, id]) => id),
        under,
        signal,
      );
      const rows = batch.map(([mac], place) => ({
        id_mac: Buffer.from(mac, 'hex'),
        epoch: under.epoch,
        patient_key: keys[place] as Buffer,
      }));
      await database.write
        .insertInto('patient_key')
        .values(rows)
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      for (const row of rows) known.set(row.id_mac.toString('hex'), row.patient_key);
    }
    return macs.map((mac) => ({ key: known.get(mac.toString('hex')) as Buffer, epoch: under.epoch }));
  };

  return {
    knownPatientKeys: async (ids) => {
      if (ids.length === 0) return [];
      const rows = await database.read
        .selectFrom('patient_key')
        .select(['patient_key', 'epoch'])
        .where('id_mac', 'in', ids.map(macOf))
        .execute();
      return rows.map((row) => ({ key: Buffer.from(row.patient_key), epoch: row.epoch }));
    },
    patientKeys: async (ids, signal) => {
      try {
        return await keysUnder(await evaluator(), ids, signal);
      } catch (thrown) {
        if (!(thrown instanceof MeshError)) throw thrown;
        if (thrown.reason === 'KEY_EPOCH_UNKNOWN') return keysUnder(await learnEvaluator(signal), ids, signal);
        if (thrown.code !== 'UNAVAILABLE' && thrown.code !== 'DEADLINE_EXCEEDED') throw thrown;
        throw new MeshError(
          'UNAVAILABLE',
          'PATIENT_KEY_UNAVAILABLE',
          'This person is new to this hospital, and the index that would give the pseudonym cannot be reached. Try again when it is back; nothing was changed.',
          { cause: thrown },
        );
      }
    },
  };
}
