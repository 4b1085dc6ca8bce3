import { MeshError } from '@meridian/shared/errors';
import type { ConsentStatement } from '@meridian/shared/consent';
import type { NodeId } from '@meridian/shared/identifiers';
import type { PeerStream } from '../peer/peer-host.ts';
import { openByteBudget } from './byte-budget.ts';
import { closeStep, refusal } from './close-reason.ts';
import { encodeStep } from './codec.ts';
import {
  ASKER_IDLE_TIMEOUT_MS,
  HELLO_TIMEOUT_MS,
  MAX_ASKER_FRAME_BYTES,
  MAX_SERVED,
  MAX_SESSIONS_PER_NODE,
  TRANSFER_PROTOCOL,
} from './limits.ts';
import type { ServedInstance } from './ports.ts';
import type { ServeParts } from './serve-parts.ts';
import { ServeSession, transfersBusy } from './serve-session.ts';

/** A transfer that is going out now. */
export interface RunningTransfer {
  readonly askingNode: NodeId;
  readonly peerId: string;
  readonly studyInstanceUid: string;
  readonly jti: string;
  readonly consentHash: string;
  readonly consentId: string;
  readonly bytesSent: number;
}

/** The node's side as a holder. */
export interface TransferServer {
  running(): readonly RunningTransfer[];
  /**
   * Ends at once what rests on a consent that this statement withdraws, or on one of a patient who now refuses.
   * @param withdrawn a verified statement; or a test of running transfers, for what the hospital itself denies.
   * @returns how many were ended.
   */
  revoke(withdrawn: ConsentStatement | ((transfer: RunningTransfer) => boolean)): number;
  /** Ends all transfers with CLOSE NODE_CLOSING and waits for them. */
  close(): Promise<void>;
}

/** Serves /meridian/transfer/1.0.0 to listed peers. */
export async function serveTransfers<Row extends ServedInstance>(parts: ServeParts<Row>): Promise<TransferServer> {
  const budget = openByteBudget(parts.clock);
  const sessions = new Map<ServeSession<Row>, Promise<void>>();
  const maxServed = parts.limits?.maxServed ?? MAX_SERVED;
  let statements = 0;
  let closing = false;

  /** Whoever has not shown a grant takes no place of those who have. */
  const hasPlace = (): boolean =>
    [...sessions.keys()].filter((session) => session.accepted !== undefined && !session.isOver).length < maxServed;

  /** The dialer speaks first: what it says is read, then the refusal is told. */
  async function refuse(stream: PeerStream): Promise<void> {
    const silence = parts.clock.after(HELLO_TIMEOUT_MS, () => stream.abort('no hello'));
    try {
      for await (const _hello of stream.messages()) break;
      stream.send(encodeStep(closeStep(closing ? new MeshError('UNAVAILABLE', 'NODE_CLOSING', 'Not now.') : transfersBusy())));
    } finally {
      silence.cancel();
    }
  }

  async function serve(stream: PeerStream): Promise<void> {
    const ofNode = [...sessions.keys()].filter((session) => session.stream.remote.nodeId === stream.remote.nodeId);
    if (closing || ofNode.length >= MAX_SESSIONS_PER_NODE) return refuse(stream);
    const session = new ServeSession<Row>(stream, { ...parts, budget, trustNews: () => statements, hasPlace });
    const served = session.run();
    sessions.set(session, served);
    try {
      await served;
    } finally {
      sessions.delete(session);
    }
  }
  await parts.peerHost.handle(TRANSFER_PROTOCOL, serve, { maxFrameBytes: MAX_ASKER_FRAME_BYTES, readIdleTimeoutMs: ASKER_IDLE_TIMEOUT_MS });

  return {
    running: () => [...sessions.keys()].flatMap((session) => viewOf(session) ?? []),
    revoke(withdrawn) {
      statements += 1;
      let ended = 0;
      for (const session of sessions.keys()) {
        const reason = reasonToEnd(session, withdrawn);
        if (reason === undefined) continue;
        session.end(refusal(reason));
        ended += 1;
      }
      return ended;
    },
    async close() {
      closing = true;
      for (const session of sessions.keys()) session.end(new MeshError('UNAVAILABLE', 'NODE_CLOSING', 'The node is being stopped.'));
      await Promise.all(sessions.values());
    },
  };
}

function reasonToEnd(
  session: ServeSession<ServedInstance>,
  withdrawn: ConsentStatement | ((transfer: RunningTransfer) => boolean),
): 'CONSENT_REVOKED' | 'CONSENT_REFUSED' | 'DENIED_BY_HOLDER' | undefined {
  const consent = session.accepted?.consent;
  const transfer = viewOf(session);
  if (consent === undefined || transfer === undefined) return undefined;
  if (typeof withdrawn === 'function') return withdrawn(transfer) ? 'DENIED_BY_HOLDER' : undefined;
  const samePatient = consent.patientKeys.some((a) => withdrawn.patientKeys.some((b) => a.key === b.key && a.epoch === b.epoch));
  if (withdrawn.status === 'revoked' && withdrawn.consentId === consent.consentId) return 'CONSENT_REVOKED';
  if (withdrawn.status === 'refused' && (withdrawn.consentId === consent.consentId || samePatient)) return 'CONSENT_REFUSED';
  return undefined;
}

function viewOf(session: ServeSession<ServedInstance>): RunningTransfer | undefined {
  if (session.isOver || session.accepted === undefined || session.studyInstanceUid === undefined) return undefined;
  const { grant, consent } = session.accepted;
  return {
    askingNode: grant.azp,
    peerId: session.stream.remote.peerId,
    studyInstanceUid: session.studyInstanceUid,
    jti: grant.jti,
    consentHash: consent.hash,
    consentId: consent.consentId,
    bytesSent: session.bytesSent,
  };
}
