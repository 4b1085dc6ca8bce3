import { inflateRawSync } from 'node:zlib';
import { MeshError } from '@meridian/shared/errors';
import type { Database } from '@meridian/shared/database';
import { sql } from 'kysely';
import type { DicomJson } from '../dicom/json.ts';
import type { StoreSchema } from './schema.ts';

const DICTIONARY_CACHE_SIZE = 64;
const BATCH = 500;
/** Far above what the header reader lets through (`maxJsonBytes`): what was stored can be read. */
const MAX_HEADER_BYTES = 128 * 1024 * 1024;

/** Stored headers: raw-deflated JSON with the first header of the series as dictionary. */
export interface Headers {
  one(sopInstanceUid: string): Promise<DicomJson>;
  many(sopInstanceUids: readonly string[]): Promise<{ sopInstanceUid: string; header: DicomJson }[]>;
}

/** Opens the headers; dictionaries of the series last read are kept. */
export function openHeaders(database: Database<StoreSchema>): Headers {
  const dictionaries = new Map<number, Buffer>();

  const dictionaryOf = async (seriesPk: number): Promise<Buffer> => {
    const known = dictionaries.get(seriesPk);
    if (known !== undefined) return known;
    const { header_dictionary: deflated } = await database.read
      .selectFrom('series')
      .select('header_dictionary')
      .where('pk', '=', seriesPk)
      .executeTakeFirstOrThrow();
    const dictionary = inflateRawSync(deflated);
    if (dictionaries.size >= DICTIONARY_CACHE_SIZE) dictionaries.delete(dictionaries.keys().next().value as number);
    dictionaries.set(seriesPk, dictionary);
    return dictionary;
  };

  const batch = async (uids: readonly string[]): Promise<Map<string, DicomJson>> => {
    const { rows } = await sql<{
      sop_instance_uid: string;
      series_pk: number;
      header: Buffer;
    }>`SELECT i.sop_instance_uid, i.series_pk, h.header
      FROM instance i JOIN instance_header h ON h.instance_pk = i.pk WHERE i.sop_instance_uid IN (SELECT value FROM json_each(${JSON.stringify(uids)}))`.execute(
      database.read,
    );
    const found = new Map<string, DicomJson>();
    for (const row of rows) {
      const text = inflateRawSync(row.header, {
        dictionary: await dictionaryOf(row.series_pk),
        maxOutputLength: MAX_HEADER_BYTES,
      }).toString();
      found.set(row.sop_instance_uid, JSON.parse(text) as DicomJson);
    }
    return found;
  };

  return {
    one: async (uid) => {
      const header = (await batch([uid])).get(uid);
      if (header === undefined) throw new MeshError('NOT_FOUND', 'INSTANCE_UNKNOWN', 'This node does not hold the instance.');
      return header;
    },
    many: async (uids) => {
      const answer: { sopInstanceUid: string; header: DicomJson }[] = [];
      for (let at = 0; at < uids.length; at += BATCH) {
        const part = uids.slice(at, at + BATCH);
        const found = await batch(part);
        for (const sopInstanceUid of part) {
          const header = found.get(sopInstanceUid);
          if (header !== undefined) answer.push({ sopInstanceUid, header });
        }
      }
      return answer;
    },
  };
}
