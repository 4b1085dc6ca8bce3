import type { ConsentRequest, ConsentView, HistoryView, NodeView, Purpose, TransferView } from './types.ts';

/** What went wrong, by a stable reason; `detail` is the node's own sentence, in English. */
export class ApiProblem extends Error {
  override readonly name = 'ApiProblem';
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, detail: string) {
    super(detail);
    this.status = status;
    this.reason = reason;
  }
}

const BASE = '/api/v1';

/** A request with plain headers. */
interface Ask {
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
}

async function send(path: string, init: Ask): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, cache: 'no-store', headers: { accept: 'application/json', ...init.headers } });
  } catch (thrown) {
    if (init.signal?.aborted === true) throw thrown;
    throw new ApiProblem(0, 'NODE_UNREACHABLE', 'The node of this hospital does not answer.');
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response: Response): Promise<ApiProblem> {
  try {
    const { reason, detail, title } = (await response.json()) as { reason?: string; detail?: string; title?: string };
    return new ApiProblem(response.status, reason ?? `HTTP_${response.status}`, detail ?? title ?? '');
  } catch {
    return new ApiProblem(response.status, `HTTP_${response.status}`, response.statusText);
  }
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await send(BASE + path, signal === undefined ? {} : { signal })).json()) as T;
}

async function post<T>(path: string, body: object, signal?: AbortSignal): Promise<T> {
  const init = {
    method: 'POST' as const,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  };
  return (await (await send(BASE + path, init)).json()) as T;
}

/** Who this hospital's node is and how it stands. */
export const getNode = (signal?: AbortSignal): Promise<NodeView> => get('/node', signal);

/** Studies of a person in all hospitals, and who could not be asked. */
export const askHistory = (personId: string, purpose: Purpose, signal?: AbortSignal): Promise<HistoryView> =>
  post('/history', { personId, purpose }, signal);

/** Consents of a person as they stand now. */
export const listConsents = async (personId: string, signal?: AbortSignal): Promise<readonly ConsentView[]> =>
  (await post<{ consents: readonly ConsentView[] }>('/consents/list', { personId }, signal)).consents;

/** Records what the patient agreed to. */
export const recordConsent = (request: ConsentRequest): Promise<ConsentView> => post('/consents', request);

/** Stops sharing by one consent. */
export const revokeConsent = (consentId: string): Promise<{ revoked: number }> => post('/consents/revoke', { consentId });

/** Copies, running and ended. */
export const listTransfers = async (signal?: AbortSignal): Promise<readonly TransferView[]> =>
  (await get<{ transfers: readonly TransferView[] }>('/transfers', signal)).transfers;

/** Starts a copy from another hospital. */
export const startTransfer = (request: {
  personId: string;
  studyInstanceUid: string;
  holderNode?: string;
  purpose: Purpose;
}): Promise<TransferView> => post('/transfers', request);

/** Stops a copy; what arrived is kept. */
export const cancelTransfer = (id: string): Promise<TransferView> => post(`/transfers/${encodeURIComponent(id)}/cancel`, {});

/** Follows a copy to its end. */
export async function followTransfer(id: string, onChange: (view: TransferView) => void, signal: AbortSignal): Promise<void> {
  const response = await send(`${BASE}/transfers/${encodeURIComponent(id)}/events`, { signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (reader === undefined) return;
  let rest = '';
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split('\n');
    rest = lines.pop() ?? '';
    for (const text of lines) {
      const line = JSON.parse(text) as {
        type: string;
        progress?: TransferView;
        result?: TransferView;
        problem?: { reason: string; message: string };
      };
      if (line.type === 'problem' && line.problem !== undefined) throw new ApiProblem(500, line.problem.reason, line.problem.message);
      const view = line.progress ?? line.result;
      if (view !== undefined) onChange(view);
    }
  }
}

/** DICOM JSON from the node's own DICOMweb. An empty answer is an empty list (PS3.18 8.3.4: 204 too). */
export async function askDicomWeb(path: string, signal?: AbortSignal): Promise<readonly DicomJson[]> {
  const response = await send(`/dicomweb${path}`, {
    headers: { accept: 'application/dicom+json' },
    ...(signal === undefined ? {} : { signal }),
  });
  return response.status === 204 ? [] : ((await response.json()) as readonly DicomJson[]);
}

/** One data set in the DICOM JSON model (PS3.18 F). */
export type DicomJson = Readonly<Record<string, { readonly vr: string; readonly Value?: readonly unknown[] } | undefined>>;
