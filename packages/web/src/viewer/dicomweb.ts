import { askDicomWeb, type DicomJson } from '../api/client.ts';

/** One picture: an instance, or one frame of it. */
export interface Picture {
  readonly key: string;
  /** Address of the server-made JPEG. */
  readonly url: string;
}

/** One series and its pictures in order. */
export interface ViewerSeries {
  readonly uid: string;
  readonly number: number;
  readonly modality: string;
  readonly description: string;
  readonly thumbnailUrl: string | undefined;
  readonly pictures: readonly Picture[];
}

/** A study as the viewer shows it; the patient is the local one, under which the node serves the study. */
export interface ViewerStudy {
  readonly patientName: string;
  readonly patientId: string;
  readonly birthDate: string;
  readonly sex: string;
  readonly studyDate: string;
  readonly description: string;
  readonly series: readonly ViewerSeries[];
}

/** Objects that are no pictures: presentation states, structured reports, key objects, plans, documents. */
const NO_PICTURES = new Set(['PR', 'SR', 'KO', 'RTPLAN', 'RTSTRUCT', 'DOC', 'REG', 'RWV', 'ANN', 'ECG', 'HD']);

/** Reads series and instances of a held study by QIDO-RS, each series' pictures by instance number. */
export async function loadStudy(studyInstanceUid: string, signal: AbortSignal): Promise<ViewerStudy> {
  const study = `/studies/${studyInstanceUid}`;
  const [studies, series, instances] = await Promise.all([
    askDicomWeb(`/studies?StudyInstanceUID=${studyInstanceUid}&includefield=00081030`, signal),
    askDicomWeb(`${study}/series?includefield=0008103E`, signal),
    allInstances(study, signal),
  ]);
  const about = studies[0] ?? {};
  const bySeries = Map.groupBy(instances, (instance) => text(instance, '0020000E'));
  return {
    patientName: personName(about),
    patientId: text(about, '00100020'),
    birthDate: text(about, '00100030'),
    sex: text(about, '00100040'),
    studyDate: text(about, '00080020'),
    description: text(about, '00081030'),
    series: series.map((one) => seriesOf(study, one, bySeries.get(text(one, '0020000E')) ?? [])).toSorted((a, b) => a.number - b.number),
  };
}

const PAGE = 1000;

async function allInstances(study: string, signal: AbortSignal): Promise<readonly DicomJson[]> {
  const all: DicomJson[] = [];
  for (;;) {
    const page = await askDicomWeb(`${study}/instances?includefield=00280008&limit=${PAGE}&offset=${all.length}`, signal);
    all.push(...page);
    if (page.length < PAGE) return all;
  }
}

function seriesOf(study: string, series: DicomJson, instances: readonly DicomJson[]): ViewerSeries {
  const uid = text(series, '0020000E');
  const modality = text(series, '00080060');
  const base = `/dicomweb${study}/series/${uid}`;
  const sorted = instances.toSorted((a, b) => number(a, '00200013') - number(b, '00200013'));
  const pictures = NO_PICTURES.has(modality) ? [] : sorted.flatMap((instance) => picturesOf(base, instance));
  return {
    uid,
    modality,
    description: text(series, '0008103E'),
    number: number(series, '00200011'),
    thumbnailUrl: pictures.length === 0 ? undefined : `${base}/thumbnail`,
    pictures,
  };
}

function picturesOf(base: string, instance: DicomJson): Picture[] {
  const uid = text(instance, '00080018');
  const frames = Math.max(1, number(instance, '00280008'));
  const url = `${base}/instances/${uid}`;
  if (frames === 1) return [{ key: uid, url: `${url}/rendered` }];
  return Array.from({ length: frames }, (_, at) => ({ key: `${uid}/${at + 1}`, url: `${url}/frames/${at + 1}/rendered` }));
}

function text(dataSet: DicomJson, tag: string): string {
  const value = dataSet[tag]?.Value?.[0];
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}

function number(dataSet: DicomJson, tag: string): number {
  const value = Number(text(dataSet, tag) || 0);
  return Number.isFinite(value) ? value : 0;
}

/** The ideographic name where there is one, with the alphabetic beside it. */
function personName(dataSet: DicomJson): string {
  const value = dataSet['00100010']?.Value?.[0] as { Alphabetic?: string; Ideographic?: string } | undefined;
  const alphabetic = (value?.Alphabetic ?? '').replace(/\^+/g, ' ').trim();
  const ideographic = (value?.Ideographic ?? '').replace(/\^+/g, '').trim();
  return [ideographic, alphabetic].filter(Boolean).join(' · ');
}
