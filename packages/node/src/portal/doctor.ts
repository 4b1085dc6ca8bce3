import { doctorWords, type CheckId, type Language } from './doctor-words.ts';

/** What the doctor looks at. A part that is absent is not checked, and the answer says so. Times in epoch ms. */
export interface DoctorFacts {
  readonly nowEpochMs: number;
  readonly running: boolean;
  readonly joined: boolean;
  readonly index?: { readonly state: 'connected' | 'unreachable'; readonly sinceEpochMs: number };
  readonly certificateExpiresAtEpochMs?: number;
  readonly disk?: { readonly freeBytes: number; readonly totalBytes: number; readonly readOnly: boolean };
  /** This machine's time minus the index's. */
  readonly clockSkewMs?: number;
  readonly dimse?: { readonly host: string; readonly port: number; readonly answering: boolean };
  readonly peers?: readonly { readonly name: string; readonly reachable: boolean }[];
  /** `refused`: studies that the index refused for good. */
  readonly feed?: { readonly pending: number; readonly refused?: number };
  readonly quarantined?: number;
  /** Studies whose PatientID stands for more than one person. */
  readonly patientConflicts?: number;
  /** Whole files that the database does not know. */
  readonly lostFiles?: { readonly count: number; readonly folder: string };
  readonly trustList?: { readonly issuedAtEpochMs: number; readonly expiresAtEpochMs: number };
}

/** One check: a state, what it means in words, and the next step where there is one. */
export interface DoctorCheck {
  readonly id: CheckId;
  readonly state: 'ok' | 'warning' | 'problem' | 'unknown';
  readonly title: string;
  readonly says: string;
  readonly todo?: string;
}

/** The verdict in one sentence, then the checks, problems first. */
export interface DoctorAdvice {
  readonly verdict: string;
  readonly state: 'ok' | 'warning' | 'problem';
  readonly checks: readonly DoctorCheck[];
}

const DAY_MS = 86_400_000;
/** Grants allow 30 s of skew; we speak up before they fail. */
const SKEW_WARNING_MS = 10_000;
const SKEW_PROBLEM_MS = 30_000;
/** Below 5 % free the node takes nothing new. */
const DISK_PROBLEM = 0.05;
const DISK_WARNING = 0.15;

type Verdict = Pick<DoctorCheck, 'id' | 'state'> & { readonly values?: Readonly<Record<string, string | number>> };

/** Turns facts into words. Pure; the same for the API, the command line and the page. */
export function adviceOf(facts: DoctorFacts, language: Language): DoctorAdvice {
  const words = doctorWords(language);
  const verdicts = [
    running(facts),
    joined(facts),
    index(facts),
    certificate(facts),
    trustList(facts),
    disk(facts),
    skew(facts),
    dimse(facts),
    peers(facts),
    feed(facts),
    quarantine(facts),
    patients(facts),
    lostFiles(facts),
  ];
  const checks = verdicts.map(({ id, state, values }): DoctorCheck => {
    const text = words.checks[id][state];
    return {
      id,
      state,
      title: words.checks[id].title,
      says: fill(text.says, values),
      ...(text.todo === undefined ? {} : { todo: fill(text.todo, values) }),
    };
  });
  const rank = { problem: 0, warning: 1, unknown: 2, ok: 3 } as const;
  const sorted = [...checks].sort((a, b) => rank[a.state] - rank[b.state]);
  const problems = checks.filter((check) => check.state === 'problem').length;
  const warnings = checks.filter((check) => check.state === 'warning').length;
  const state = problems > 0 ? 'problem' : warnings > 0 ? 'warning' : 'ok';
  return { verdict: fill(words.verdict[state], { problems, warnings }), state, checks: sorted };
}

function running({ running: up }: DoctorFacts): Verdict {
  return { id: 'node', state: up ? 'ok' : 'problem' };
}

function joined(facts: DoctorFacts): Verdict {
  return { id: 'joined', state: facts.joined ? 'ok' : 'warning' };
}

function index(facts: DoctorFacts): Verdict {
  if (facts.index === undefined) return { id: 'index', state: 'unknown' };
  const since = clockTime(facts.index.sinceEpochMs);
  return { id: 'index', state: facts.index.state === 'connected' ? 'ok' : 'problem', values: { since } };
}

function certificate(facts: DoctorFacts): Verdict {
  if (facts.certificateExpiresAtEpochMs === undefined) return { id: 'certificate', state: 'unknown' };
  const left = (facts.certificateExpiresAtEpochMs - facts.nowEpochMs) / DAY_MS;
  const days = Math.max(0, Math.floor(left * 10) / 10);
  return { id: 'certificate', state: left <= 0 ? 'problem' : left < 2 ? 'warning' : 'ok', values: { days } };
}

function trustList(facts: DoctorFacts): Verdict {
  if (facts.trustList === undefined) return { id: 'trust', state: 'unknown' };
  const { issuedAtEpochMs, expiresAtEpochMs } = facts.trustList;
  const minutes = Math.max(0, Math.round((facts.nowEpochMs - issuedAtEpochMs) / 60_000));
  const hours = Math.max(0, Math.round((expiresAtEpochMs - facts.nowEpochMs) / 3_600_000));
  return {
    id: 'trust',
    state: facts.nowEpochMs >= expiresAtEpochMs ? 'problem' : minutes > 15 ? 'warning' : 'ok',
    values: { minutes, hours },
  };
}

function disk(facts: DoctorFacts): Verdict {
  if (facts.disk === undefined) return { id: 'disk', state: 'unknown' };
  const share = facts.disk.totalBytes === 0 ? 1 : facts.disk.freeBytes / facts.disk.totalBytes;
  const values = { free: bytesText(facts.disk.freeBytes), percent: Math.round(share * 100) };
  return { id: 'disk', state: facts.disk.readOnly || share < DISK_PROBLEM ? 'problem' : share < DISK_WARNING ? 'warning' : 'ok', values };
}

function skew(facts: DoctorFacts): Verdict {
  if (facts.clockSkewMs === undefined) return { id: 'clock', state: 'unknown' };
  const off = Math.abs(facts.clockSkewMs);
  return {
    id: 'clock',
    state: off >= SKEW_PROBLEM_MS ? 'problem' : off >= SKEW_WARNING_MS ? 'warning' : 'ok',
    values: { seconds: Math.round(off / 100) / 10 },
  };
}

function dimse(facts: DoctorFacts): Verdict {
  if (facts.dimse === undefined) return { id: 'dimse', state: 'unknown' };
  const values = { host: facts.dimse.host, port: facts.dimse.port };
  // While the node is down its port should be free: whoever answers there will be in its way.
  if (!facts.running) return { id: 'dimse', state: facts.dimse.answering ? 'warning' : 'unknown', values };
  return { id: 'dimse', state: facts.dimse.answering ? 'ok' : 'problem', values };
}

function peers(facts: DoctorFacts): Verdict {
  if (facts.peers === undefined) return { id: 'peers', state: 'unknown' };
  const away = facts.peers.filter((peer) => !peer.reachable).map((peer) => peer.name);
  const values = { total: facts.peers.length, away: away.length, names: away.slice(0, 5).join(', ') };
  return { id: 'peers', state: away.length > 0 ? 'warning' : 'ok', values };
}

function feed(facts: DoctorFacts): Verdict {
  if (facts.feed === undefined) return { id: 'feed', state: 'unknown' };
  const { pending, refused = 0 } = facts.feed;
  return { id: 'feed', state: refused > 0 ? 'problem' : pending > 0 ? 'warning' : 'ok', values: { pending, refused } };
}

function quarantine(facts: DoctorFacts): Verdict {
  if (facts.quarantined === undefined) return { id: 'quarantine', state: 'unknown' };
  return { id: 'quarantine', state: facts.quarantined > 0 ? 'warning' : 'ok', values: { count: facts.quarantined } };
}

function patients({ patientConflicts }: DoctorFacts): Verdict {
  if (patientConflicts === undefined) return { id: 'patients', state: 'unknown' };
  return { id: 'patients', state: patientConflicts > 0 ? 'warning' : 'ok', values: { count: patientConflicts } };
}

function lostFiles({ lostFiles: lost }: DoctorFacts): Verdict {
  if (lost === undefined) return { id: 'lost-files', state: 'unknown' };
  return { id: 'lost-files', state: lost.count > 0 ? 'warning' : 'ok', values: { count: lost.count, folder: lost.folder } };
}

function fill(text: string, values: Readonly<Record<string, string | number>> = {}): string {
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ''));
}

/** Local time of day, HH:MM. */
function clockTime(epochMs: number): string {
  const at = new Date(epochMs);
  return `${String(at.getHours()).padStart(2, '0')}:${String(at.getMinutes()).padStart(2, '0')}`;
}

/** Bytes as a person reads them, powers of 1024. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : Math.round(value * 10) / 10} ${units[unit]}`;
}
