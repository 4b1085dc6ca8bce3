import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readPart10Start } from '@meridian/node/dicom/part10';
import { maskPersonId, parsePersonId } from '@meridian/shared/identifiers';
import { generateStudy, type StudyOrder, studyUidOf } from '../data/studies.ts';
import { type History, type HistoryStudy, ProblemAnswer, type Transfer } from '../hospital-client.ts';
import { sendAll, type StoredObject } from '../modality.ts';
import type { Hospital, Network } from '../network.ts';
import { CT_AT_A, DX_AT_A, type HospitalKey, LI, MR_AT_B, REAL_FILES, SCHEDULE, SHARED_LOCAL_ID, WANG } from './cast.ts';
import type { Teller } from './teller.ts';

/** What the story showed, in figures. */
export interface StorySummary {
  studiesStored: number;
  instancesStored: number;
  remoteStudiesFound: number;
  refusedWithoutConsent: number;
  refusedAfterRevocation: number;
  instancesTransferred: number;
  bytesTransferred: number;
  digestMismatches: number;
  patientsJoinedWrongly: number;
  coverage: { asked: number; answered: number; notAsked: number };
  firstImageMs: number;
}

const REAL_FOLDER = join(import.meta.dirname, '../../data/real');

/** Tells the main job from the scanner to the doctor in another hospital, and checks every step of it. */
export async function tellStory(network: Network<HospitalKey>, teller: Teller): Promise<StorySummary> {
  const [a, b, c] = [network.hospital('a'), network.hospital('b'), network.hospital('c')];
  const person = maskPersonId(parsePersonId(WANG.residentId));

  teller.chapter('Modalities send studies (C-STORE)');
  const sent = new Map<HospitalKey, number>();
  for (const hospital of [a, b, c]) sent.set(hospital.key, await examine(hospital, teller));
  await network.settle();
  const stored = await Promise.all([a, b, c].map(async (hospital) => (await hospital.client.node()).storage));
  const studiesStored = stored.reduce((total, { studies }) => total + studies, 0);
  const instancesStored = stored.reduce((total, { instances }) => total + instances, 0);
  teller.say(
    `${studiesStored} studies, ${instancesStored} images: on disk, hashed, acknowledged. Manifests are at the index; no pixel and no name is.`,
  );

  teller.chapter(`A doctor at ${c.name} asks for everything about ${person}`);
  const before = await c.client.history(WANG.residentId);
  tellHistory(before, teller);
  const remote = before.studies.filter((study) => study.holders.some((holder) => !holder.self));

  teller.chapter('No consent, no image');
  const refusedWithoutConsent = await countRefusals(c, [CT_AT_A, MR_AT_B], 'NO_CONSENT', teller);

  teller.chapter('The patient agrees; a clerk records it');
  await c.client.recordConsent({ personId: WANG.residentId });
  teller.say(`Signed by ${c.name}, valid for 30 days, for treatment there. Every holder checks it for itself.`);

  teller.chapter('The studies travel, hospital to hospital');
  const copies: Transfer[] = [];
  for (const order of [CT_AT_A, MR_AT_B]) copies.push(await copy(c, order, teller));
  const transferred = copies.reduce((total, { progress }) => total + (progress?.instancesVerified ?? 0), 0);
  const bytes = copies.reduce((total, { progress }) => total + (progress?.bytesVerified ?? 0), 0);

  teller.chapter('The doctor looks');
  await look(c, CT_AT_A, teller);

  teller.chapter('Two people, one local number');
  const patientsJoinedWrongly = await countWrongJoins(a, c, teller);

  teller.chapter('The patient withdraws consent');
  await c.client.revokeConsent({ personId: WANG.residentId });
  await network.settle();
  const refusedAfterRevocation = (await countRefusals(c, [DX_AT_A], 'CONSENT_REVOKED', teller)) + (await countLockedCopies(c, teller));

  return {
    studiesStored,
    instancesStored,
    remoteStudiesFound: remote.length,
    refusedWithoutConsent,
    refusedAfterRevocation,
    instancesTransferred: transferred,
    bytesTransferred: bytes,
    digestMismatches: copies.reduce((total, { digestMismatches }) => total + (digestMismatches ?? 0), 0),
    patientsJoinedWrongly,
    coverage: { asked: before.coverage.asked, answered: before.coverage.answered, notAsked: before.coverage.notAsked },
    firstImageMs: Math.round(Math.min(...copies.map(({ progress }) => progress?.firstImageMs ?? Number.POSITIVE_INFINITY))),
  };
}

/** Sends a hospital's schedule and its real files, each study on an association of its own. */
async function examine(hospital: Hospital<HospitalKey>, teller: Teller): Promise<number> {
  let images = 0;
  for (const order of SCHEDULE[hospital.key]) {
    const objects: StoredObject[] = [...generateStudy(order)];
    await send(hospital, `${order.kind.toUpperCase()}1`, objects);
    images += objects.length;
    teller.say(
      `${order.kind.toUpperCase()} of ${order.person.name.split('=')[1] ?? order.person.name} (${order.patientId}), ${objects.length} images -> ${hospital.name}`,
    );
  }
  const real = REAL_FILES[hospital.key].map(realObject);
  await send(hospital, 'ARCHIVE', real);
  teller.say(`${real.length} real file${real.length === 1 ? '' : 's'} -> ${hospital.name}`);
  return images + real.length;
}

async function send(hospital: Hospital<HospitalKey>, callingAeTitle: string, objects: readonly StoredObject[]): Promise<void> {
  const statuses = await sendAll({ host: '127.0.0.1', port: hospital.dimsePort, callingAeTitle, calledAeTitle: hospital.aeTitle }, objects);
  const failed = statuses.find((status) => status !== 0);
  if (failed !== undefined) throw new Error(`${hospital.name} answered status 0x${failed.toString(16)} to a C-STORE`);
}

function realObject(file: string): StoredObject {
  const bytes = readFileSync(join(REAL_FOLDER, file));
  const start = readPart10Start(bytes);
  if (start === 'need-more' || start.sopClassUid === undefined || start.sopInstanceUid === undefined)
    throw new Error(`${file} has no file meta information`);
  return {
    sopClassUid: start.sopClassUid,
    sopInstanceUid: start.sopInstanceUid,
    transferSyntaxUid: start.transferSyntaxUid,
    dataSet: bytes.subarray(start.metaEndOffset),
  };
}

function tellHistory(history: History, teller: Teller): void {
  for (const study of history.studies) teller.say(describe(study));
  const { asked, answered, notAsked } = history.coverage;
  teller.say(
    `${answered} of ${asked} hospitals answered${notAsked === 0 ? '' : `; ${notAsked} could not be asked, there may be studies we cannot see`}.`,
  );
}

function describe(study: HistoryStudy): string {
  const where = study.holders.map((holder) => (holder.self ? 'here' : holder.name)).join(', ');
  const date = study.studyDate.replace(/^(\d{4})(\d{2})(\d{2})$/, '$1-$2-$3');
  const state = { own: 'own', allowed: 'may be fetched', refused: 'not shared' }[study.consent];
  return `${date}  ${study.modalities.join('/').padEnd(3)} ${String(study.instanceCount).padStart(4)} images  ${where}  [${state}]`;
}

/** How many of these fetches the mesh refused, as it must. */
async function countRefusals(
  hospital: Hospital<HospitalKey>,
  orders: readonly StudyOrder[],
  reason: string,
  teller: Teller,
): Promise<number> {
  let refused = 0;
  for (const order of orders) {
    try {
      await hospital.client.fetchStudy({ personId: WANG.residentId, studyInstanceUid: studyUidOf(order) });
      teller.say(`${order.kind.toUpperCase()} of ${order.date} was sent, which must not happen.`);
    } catch (error) {
      if (!(error instanceof ProblemAnswer) || error.reason !== reason) throw error;
      refused += 1;
      teller.say(`${order.kind.toUpperCase()} of ${order.date}: ${error.message} (${error.reason})`);
    }
  }
  return refused;
}

async function copy(hospital: Hospital<HospitalKey>, order: StudyOrder, teller: Teller): Promise<Transfer> {
  const startedAt = performance.now();
  const done = await hospital.client.fetchStudy({ personId: WANG.residentId, studyInstanceUid: studyUidOf(order) }, ({ progress }) => {
    if (progress !== undefined) teller.progress(`copying ${progress.instancesVerified} of ${progress.instancesTotal} images`);
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const megabytes = (done.progress?.bytesVerified ?? 0) / 1e6;
  teller.say(
    `${order.kind.toUpperCase()} of ${order.date}: ${done.progress?.instancesVerified ?? 0} images, ${megabytes.toFixed(1)} MB in ${seconds.toFixed(1)} s, first image after ${Math.round(done.progress?.firstImageMs ?? 0)} ms; each matches the digest its hospital signed.`,
  );
  return done;
}

/** Opens the copy through the hospital's own DICOMweb: metadata under the local id, one rendered image. */
async function look(hospital: Hospital<HospitalKey>, order: StudyOrder, teller: Teller): Promise<void> {
  const study = studyUidOf(order);
  const metadata = JSON.parse(
    (await hospital.client.bytes(`/dicomweb/studies/${study}/metadata`, 'application/dicom+json')).body.toString('utf8'),
  ) as readonly Record<string, { Value?: readonly unknown[] }>[];
  const first = metadata[0];
  if (first === undefined) throw new Error('the copy has no metadata');
  const text = (tag: string): string => {
    const value = first[tag]?.Value?.[0];
    return typeof value === 'string' ? value : '';
  };
  const image = await hospital.client.bytes(
    `/dicomweb/studies/${study}/series/${text('0020000E')}/instances/${text('00080018')}/rendered`,
    'image/jpeg',
  );
  if (!image.contentType.startsWith('image/jpeg')) throw new Error(`a rendered image came as ${image.contentType}`);
  teller.say(
    `${metadata.length} images under the local id ${text('00100020')}; the id at the other hospital stands in Original Attributes. One rendered: ${Math.round(image.body.length / 1024)} kB JPEG.`,
  );
}

/**
 * The local id that A gave to Mrs Wang belongs to Mr Li at C. Nothing of hers may stand under his id at C, nothing of
 * his in her history, and the other way round.
 */
async function countWrongJoins(a: Hospital<HospitalKey>, c: Hospital<HospitalKey>, teller: Teller): Promise<number> {
  const under = async (hospital: Hospital<HospitalKey>): Promise<string[]> =>
    (await hospital.client.searchStudies(`?PatientID=${SHARED_LOCAL_ID}`)).map((study) => JSON.stringify(study['00100010']?.Value ?? []));
  const wrongAtC = (await under(c)).filter((name) => !name.includes('建国'));
  const wrongAtA = (await under(a)).filter((name) => !name.includes('秀英'));
  const uids = (history: History): Set<string> => new Set(history.studies.map((study) => study.studyInstanceUid));
  const hers = uids(await c.client.history(WANG.residentId));
  const shared = [...uids(await c.client.history(LI.residentId))].filter((uid) => hers.has(uid));
  const wrong = wrongAtC.length + wrongAtA.length + shared.length;
  teller.say(
    `${SHARED_LOCAL_ID} is Mrs Wang at ${a.name} and Mr Li at ${c.name}: ${wrong === 0 ? 'they stay two people.' : `${wrong} studies were joined wrongly.`}`,
  );
  return wrong;
}

/** Copies lock when their consent ends. */
async function countLockedCopies(hospital: Hospital<HospitalKey>, teller: Teller): Promise<number> {
  try {
    await hospital.client.bytes(`/dicomweb/studies/${studyUidOf(CT_AT_A)}/metadata`, 'application/dicom+json');
    return 0;
  } catch (error) {
    if (!(error instanceof ProblemAnswer) || error.reason !== 'COPY_LOCKED') throw error;
    teller.say(`The copy made before: ${error.message} (${error.reason})`);
    return 1;
  }
}
