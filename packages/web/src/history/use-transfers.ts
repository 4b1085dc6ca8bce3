import { useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useRef, useState } from 'react';
import { ApiProblem, cancelTransfer, followTransfer, listTransfers, startTransfer } from '../api/client.ts';
import type { Purpose, TransferView } from '../api/types.ts';

/** Copies as they run, by study. */
export interface Transfers {
  of(studyInstanceUid: string): TransferView | undefined;
  start(request: { personId: string; studyInstanceUid: string; holderNode?: string; purpose: Purpose }): Promise<void>;
  cancel(view: TransferView): Promise<void>;
}

/** Follows every copy that runs on this node, also those that were started before the page was opened. */
export function useTransfers(): Transfers {
  const queries = useQueryClient();
  const [views, setViews] = useState<ReadonlyMap<string, TransferView>>(new Map());
  const following = useRef(new Set<string>());
  const stop = useRef(new AbortController());

  const put = useCallback((view: TransferView) => setViews((known) => new Map(known).set(view.studyInstanceUid, view)), []);
  const follow = useCallback(
    async (view: TransferView): Promise<void> => {
      put(view);
      if (view.state !== 'running' || following.current.has(view.id)) return;
      following.current.add(view.id);
      let last = view;
      try {
        await followTransfer(view.id, (next) => put((last = next)), stop.current.signal);
      } catch (thrown) {
        if (stop.current.signal.aborted) return;
        put({ ...last, state: 'failed', failure: failureOf(thrown) });
      } finally {
        following.current.delete(view.id);
      }
      // What is held has changed, and perhaps who may see it.
      await Promise.all([
        queries.invalidateQueries({ queryKey: ['history'] }),
        queries.invalidateQueries({ queryKey: ['node'] }),
        queries.invalidateQueries({ queryKey: ['dicomweb'] }),
      ]);
    },
    [put, queries],
  );

  useEffect(() => {
    const controller = new AbortController();
    stop.current = controller;
    listTransfers(controller.signal).then(
      (running) => running.filter((view) => view.state === 'running').forEach((view) => void follow(view)),
      // The banner already says that the node does not answer.
      () => undefined,
    );
    return () => controller.abort();
  }, [follow]);

  return {
    of: (studyInstanceUid) => views.get(studyInstanceUid),
    async start(request) {
      try {
        void follow(await startTransfer(request));
      } catch (thrown) {
        put({ id: '', studyInstanceUid: request.studyInstanceUid, state: 'failed', failure: failureOf(thrown) });
      }
    },
    async cancel(view) {
      put(await cancelTransfer(view.id));
    },
  };
}

function failureOf(thrown: unknown): { code: string; reason: string; message: string } {
  return {
    code: 'UNAVAILABLE',
    reason: thrown instanceof ApiProblem ? thrown.reason : 'NODE_UNREACHABLE',
    message: thrown instanceof Error ? thrown.message : '',
  };
}
