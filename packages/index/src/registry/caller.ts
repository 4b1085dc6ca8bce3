import type { PeerCertificate } from 'node:tls';
import { MeshError } from '@meridian/shared/errors';
import { NodeStatus, type TrustEntry } from '@meridian/shared/generated/meridian/v1/trust';
import { peerSpki } from '@meridian/shared/grpc';
import type { NodeId } from '@meridian/shared/identifiers';
import type { TrustKeeper } from './trust-keeper.ts';

/** The node on the other end of a call, as its certificate and the trust list say now. */
export interface Caller {
  readonly nodeId: NodeId;
  readonly entry: TrustEntry;
}

/** Anything that carries the other side's certificate. */
export interface AuthenticatedCall {
  getAuthContext(): { sslPeerCertificate?: PeerCertificate } | null;
}

/** Who may call; asked on every call, because a certificate outlives a revocation. */
export interface CallerGate {
  /** @throws MeshError UNAUTHENTICATED / CERTIFICATE_UNKNOWN, PERMISSION_DENIED / NODE_REVOKED | NODE_SUSPENDED */
  readonly authenticate: (call: AuthenticatedCall) => Caller;
  /** A signal for a long call: aborts with the call's own, and as soon as the node is no longer active or has joined again with other keys. */
  whileActive(caller: Caller, signal: AbortSignal): { readonly signal: AbortSignal; release(): void };
  /** Ends all long calls, because the index stops. */
  close(): void;
}

/** Opens the gate over the trust list. */
export function openCallerGate(keeper: TrustKeeper): CallerGate {
  const running = new Set<AbortController>();
  return {
    authenticate: (call) => {
      const spki = peerSpki(call);
      const entry = spki === undefined ? undefined : keeper.view().bySpki(spki);
      if (entry === undefined) {
        throw new MeshError(
          'UNAUTHENTICATED',
          'CERTIFICATE_UNKNOWN',
          'The certificate of this call belongs to no node of the federation, or has run out. Renew it, or join again with a new code.',
        );
      }
      refuseInactive(entry);
      return { nodeId: entry.nodeId as NodeId, entry };
    },
    whileActive: (caller, signal) => {
      const controller = new AbortController();
      const onAbort = (): void => controller.abort(signal.reason);
      if (signal.aborted) onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      running.add(controller);
      const stop = keeper.onNews(() => {
        try {
          const entry = keeper.view().entries.get(caller.nodeId);
          refuseInactive(entry);
          if (entry?.signingPublicKey.equals(caller.entry.signingPublicKey) !== true) throw keyReplaced();
        } catch (refusal) {
          controller.abort(refusal);
        }
      });
      return {
        signal: controller.signal,
        release: () => {
          stop();
          running.delete(controller);
          signal.removeEventListener('abort', onAbort);
        },
      };
    },
    close: () => {
      for (const controller of running)
        controller.abort(
          new MeshError(
            'UNAVAILABLE',
            'INDEX_UNREACHABLE',
            'The index is stopping. What is held here stays usable; the rest is tried again by itself.',
          ),
        );
    },
  };
}

function refuseInactive(entry: TrustEntry | undefined): void {
  if (entry?.status === NodeStatus.NODE_STATUS_ACTIVE) return;
  if (entry?.status === NodeStatus.NODE_STATUS_SUSPENDED) {
    throw new MeshError(
      'PERMISSION_DENIED',
      'NODE_SUSPENDED',
      'This node is suspended for now. Ask the operator of the index why, and when it may come back.',
    );
  }
  throw new MeshError(
    'PERMISSION_DENIED',
    'NODE_REVOKED',
    'This node was removed from the federation. Ask the operator of the index; a new code is needed to join again.',
  );
}

function keyReplaced(): MeshError {
  return new MeshError(
    'UNAUTHENTICATED',
    'CERTIFICATE_UNKNOWN',
    'This node has joined again with other keys: those of this call are no longer valid.',
  );
}
