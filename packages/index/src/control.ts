import { timingSafeEqual } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { asMeshError, MeshError, type Reason, type StatusCode } from '@meridian/shared/errors';
import { sha256 } from '@meridian/shared/identifiers';
import type { Logger } from '@meridian/shared/log';
import type { Random } from '@meridian/shared/platform/random';
import { indexFiles } from './config.ts';
import type { IndexAdmin, IndexStatus, Invitation } from './index-admin.ts';
import { readIfThere, writeSecret } from './key-files.ts';

/** The operator's way into a running index: loopback only, with a token that stands in a file of mode 0600. */
export interface Control {
  close(): Promise<void>;
}

interface ControlFile {
  readonly port: number;
  readonly token: string;
}

interface Failure {
  readonly code: StatusCode;
  readonly reason: Reason;
  readonly message: string;
}

const MAX_REQUEST_BYTES = 16 * 1024;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;

/** Opens the control door and writes its file. */
export async function openControl(parts: {
  readonly folder: string;
  readonly admin: IndexAdmin;
  readonly random: Random;
  readonly log: Logger;
}): Promise<Control> {
  const token = parts.random.bytes(32).toString('hex');
  const path = indexFiles(parts.folder).control;
  const server = createServer((request, response) => {
    const answer = (status: number, body: unknown): void => {
      response
        .writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
        .end(JSON.stringify(body));
    };
    if (!isAuthorised(request, token))
      return answer(401, failureOf(new MeshError('UNAUTHENTICATED', 'TOKEN_INVALID', 'The token of the control file is needed.')));
    perform(parts.admin, request).then(
      (result) => answer(200, { result: result ?? null }),
      (thrown: unknown) => {
        const error = asMeshError(thrown);
        if (error.code === 'INTERNAL')
          parts.log.error({ event: 'control-failed', err: error.cause ?? error }, "an operator's command failed");
        answer(error.httpStatus, failureOf(error));
      },
    );
  });
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  await writeSecret(path, JSON.stringify({ port: (server.address() as AddressInfo).port, token } satisfies ControlFile));
  return {
    close: async () => {
      await rm(path, { force: true });
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** The running index of a folder, or undefined where none answers. */
export async function connectControl(folder: string): Promise<IndexAdmin | undefined> {
  const text = await readIfThere(indexFiles(folder).control);
  if (text === undefined) return undefined;
  const file = JSON.parse(text) as ControlFile;
  const ask = (operation: string, argument: unknown): Promise<unknown> => send(file, operation, argument);
  const admin: IndexAdmin = {
    addHospital: async (hospital) => (await ask('add-hospital', hospital)) as Invitation,
    inviteAgain: async (nodeId) => (await ask('invite-again', { nodeId })) as Invitation,
    setStatus: async (nodeId, status) => {
      await ask('set-status', { nodeId, status });
    },
    status: async () => (await ask('status', {})) as IndexStatus,
  };
  try {
    await admin.status();
    return admin;
  } catch (thrown) {
    const error = asMeshError(thrown);
    // What an index left behind that was killed.
    if (error.reason === 'CONTROL_UNREACHABLE' || error.reason === 'TOKEN_INVALID') return undefined;
    throw error;
  }
}

async function perform(admin: IndexAdmin, request: IncomingMessage): Promise<unknown> {
  const argument = JSON.parse(await bodyOf(request, MAX_REQUEST_BYTES)) as Record<string, unknown>;
  const text = (name: string): string => {
    const value = argument[name];
    if (typeof value === 'string') return value;
    throw new MeshError('INVALID_ARGUMENT', 'ARGUMENT_MISSING', `The command needs ${name}.`);
  };
  switch (`${request.method} ${request.url}`) {
    case 'POST /v1/add-hospital':
      return admin.addHospital({
        name: text('name'),
        ...(argument['segment'] === undefined ? {} : { segment: text('segment') }),
        ...(typeof argument['backfillBudget'] === 'number' ? { backfillBudget: argument['backfillBudget'] } : {}),
      });
    case 'POST /v1/invite-again':
      return admin.inviteAgain(text('nodeId'));
    case 'POST /v1/set-status': {
      const status = text('status');
      if (status !== 'active' && status !== 'suspended' && status !== 'revoked')
        throw new MeshError('INVALID_ARGUMENT', 'STATUS_UNKNOWN', 'A status is active, suspended or revoked.');
      return admin.setStatus(text('nodeId'), status);
    }
    case 'POST /v1/status':
      return admin.status();
    default:
      throw new MeshError('NOT_FOUND', 'OPERATION_UNKNOWN', 'The running index does not know this command. It may be of another version.');
  }
}

async function bodyOf(message: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new MeshError('INVALID_ARGUMENT', 'REQUEST_TOO_LARGE', 'The command is too large.');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function isAuthorised(request: IncomingMessage, token: string): boolean {
  return timingSafeEqual(sha256(request.headers.authorization ?? ''), sha256(`Bearer ${token}`));
}

function failureOf(error: MeshError): Failure {
  return { code: error.code, reason: error.reason, message: error.message };
}

function send(file: ControlFile, operation: string, argument: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify(argument);
    const outgoing = httpRequest(
      {
        host: '127.0.0.1',
        port: file.port,
        method: 'POST',
        path: `/v1/${operation}`,
        timeout: REQUEST_TIMEOUT_MS,
        headers: { authorization: `Bearer ${file.token}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      (incoming) => {
        readAnswer(incoming).then(resolve, reject);
      },
    );
    outgoing.once('timeout', () => outgoing.destroy(new Error('timeout')));
    outgoing.once('error', (cause) => reject(unreachable(cause)));
    outgoing.end(body);
  });
}

async function readAnswer(incoming: IncomingMessage): Promise<unknown> {
  let answer: { result?: unknown } & Partial<Failure>;
  try {
    answer = JSON.parse(await bodyOf(incoming, MAX_ANSWER_BYTES)) as typeof answer;
  } catch (cause) {
    throw unreachable(cause);
  }
  if (incoming.statusCode === 200) return answer.result;
  throw new MeshError(
    answer.code ?? 'UNKNOWN',
    answer.reason ?? 'CONTROL_UNREACHABLE',
    answer.message ?? 'The running index did not answer.',
  );
}

function unreachable(cause: unknown): MeshError {
  return new MeshError('UNAVAILABLE', 'CONTROL_UNREACHABLE', 'The running index does not answer on its control port.', { cause });
}
