import { createHash } from 'node:crypto';

/** A problem as the node's API told it (RFC 9457). */
export class ProblemAnswer extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, detail: string) {
    super(detail);
    this.status = status;
    this.reason = reason;
  }
}

/** One study in a history. */
export interface HistoryStudy {
  readonly studyInstanceUid: string;
  readonly studyDate: string;
  readonly modalities: readonly string[];
  readonly description?: string;
  readonly instanceCount: number;
  readonly holders: readonly { readonly nodeId: string; readonly name: string; readonly self: boolean }[];
  readonly held: 'local' | 'copy' | 'partial' | 'no';
  readonly locked?: boolean;
  readonly consent: 'allowed' | 'refused' | 'own';
  readonly consentReason?: string;
  readonly mismatch?: readonly { readonly field: string; readonly local: string; readonly fetched: string }[];
}

/** What a hospital finds of a person. */
export interface History {
  readonly studies: readonly HistoryStudy[];
  readonly coverage: {
    readonly asked: number;
    readonly answered: number;
    readonly notAsked: number;
    readonly indexReachable: boolean;
    readonly nodes: readonly { readonly nodeId: string; readonly name: string; readonly state: string; readonly pending: number }[];
  };
}

/** How a copy stands. */
export interface Transfer {
  readonly id: string;
  readonly studyInstanceUid: string;
  readonly state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
  readonly progress?: {
    readonly instancesVerified: number;
    readonly instancesTotal: number;
    readonly bytesVerified: number;
    readonly bytesTotal: number;
    readonly firstImageMs?: number;
  };
  readonly failure?: { readonly code: string; readonly reason: string; readonly message: string };
  readonly digestMismatches?: number;
  readonly resumedInstances?: number;
}

/** A hospital as a browser or a viewer sees it: its JSON API and its DICOMweb. */
export interface HospitalClient {
  history(personId: string): Promise<History>;
  recordConsent(request: {
    personId: string;
    grantee?: 'this-hospital' | 'any-treating';
    validForMs?: number;
    modalities?: readonly string[];
    studyInstanceUids?: readonly string[];
  }): Promise<{ readonly consentId: string }>;
  revokeConsent(target: { personId: string } | { consentId: string }): Promise<{ readonly revoked: number }>;
  /** Starts a copy and follows it to its end. @throws ProblemAnswer with the refusal's reason. */
  fetchStudy(
    request: { personId: string; studyInstanceUid: string; holderNode?: string },
    onProgress?: (transfer: Transfer) => void,
  ): Promise<Transfer>;
  /** QIDO-RS. */
  searchStudies(query: string): Promise<readonly Readonly<Record<string, { readonly vr: string; readonly Value?: readonly unknown[] }>>[]>;
  /** SOP Instance UIDs that QIDO-RS lists of a study; none where the study is not held. */
  instancesOf(studyInstanceUid: string): Promise<readonly string[]>;
  /** Any GET, as bytes. @throws ProblemAnswer */
  bytes(path: string, accept: string): Promise<{ readonly contentType: string; readonly body: Buffer }>;
  node(): Promise<{
    readonly storage: { readonly studies: number; readonly instances: number };
    readonly advertise?: { readonly pending: number; readonly acknowledgedSeq: number };
  }>;
}

/** @param apiUrl `http://127.0.0.1:<port>` */
export function hospitalClient(apiUrl: string): HospitalClient {
  const call = async (path: string, init: RequestInit = {}): Promise<Response> => {
    const response = await fetch(`${apiUrl}${path}`, { signal: AbortSignal.timeout(120_000), ...init });
    if (response.ok) return response;
    const problem = (await response.json().catch(() => ({}))) as { reason?: string; detail?: string };
    throw new ProblemAnswer(response.status, problem.reason ?? 'UNKNOWN', problem.detail ?? `the node answered ${response.status}`);
  };
  const post = async <T>(path: string, body: object): Promise<T> =>
    (await (await call(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })).json()) as T;
  const get = async <T>(path: string): Promise<T> => (await (await call(path)).json()) as T;

  return {
    history: (personId) => post('/api/v1/history', { personId }),
    recordConsent: ({ personId, grantee = 'this-hospital', validForMs = 30 * 86_400_000, ...scope }) =>
      post('/api/v1/consents', { personId, grantee: { kind: grantee }, validForMs, clerk: 'demo clerk', ...scope }),
    revokeConsent: (target) => post('/api/v1/consents/revoke', target),
    async fetchStudy(request, onProgress) {
      const { id } = await post<Transfer>('/api/v1/transfers', request);
      let last: Transfer | undefined;
      for await (const line of jsonLines(await call(`/api/v1/transfers/${id}/events`, { signal: AbortSignal.timeout(600_000) }))) {
        last = (line['progress'] ?? line['result'] ?? last) as Transfer | undefined;
        if (last !== undefined) onProgress?.(last);
      }
      if (last?.failure !== undefined) throw new ProblemAnswer(403, last.failure.reason, last.failure.message);
      if (last?.state !== 'done') throw new ProblemAnswer(500, 'TRANSFER_UNFINISHED', 'the copy ended without a result');
      return last;
    },
    searchStudies: (query) => get(`/dicomweb/studies${query}`),
    async instancesOf(studyInstanceUid) {
      try {
        const rows = await get<readonly Record<string, { readonly Value?: readonly string[] }>[]>(
          `/dicomweb/studies/${studyInstanceUid}/instances?limit=5000`,
        );
        return rows.map((row) => row['00080018']?.Value?.[0] ?? '');
      } catch (error) {
        if (error instanceof ProblemAnswer && error.status === 404) return [];
        throw error;
      }
    },
    async bytes(path, accept) {
      const response = await call(path, { headers: { accept } });
      return { contentType: response.headers.get('content-type') ?? '', body: Buffer.from(await response.arrayBuffer()) };
    },
    node: () => get('/api/v1/node'),
  };
}

/** SHA-256, lower-case hex. */
export function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function* jsonLines(response: Response): AsyncGenerator<Readonly<Record<string, unknown>>> {
  const decoder = new TextDecoder();
  let held = '';
  for await (const chunk of response.body ?? []) {
    held += decoder.decode(chunk as Uint8Array, { stream: true });
    const lines = held.split('\n');
    held = lines.pop() ?? '';
    for (const line of lines) if (line !== '') yield JSON.parse(line) as Record<string, unknown>;
  }
  if (held !== '') yield JSON.parse(held) as Record<string, unknown>;
}
