import { asMeshError, type MeshError } from '@meridian/shared/errors';
import type { Logger } from '@meridian/shared/log';
import type { Ingest, IngestOutcome, InstanceSink } from '../store/ingest.ts';
import type { DimseResponse } from './command-set.ts';
import { DIMSE_STATUS, failureResponse } from './dimse-status.ts';
import { isStorageClass } from './presentation-contexts.ts';
import { answering, type DimseRequest, type DimseService, type Operation } from './service.ts';

/**
 * C-STORE: the data set goes to the one ingest as it comes; Success only after file and row are durable (PS3.4 B.2.2).
 * @see DICOM PS3.7 9.1.1
 */
export function storeService(parts: { readonly ingest: Ingest; readonly log: Logger }): DimseService {
  return (request) => {
    const refusal = refusalOf(request);
    if (refusal !== undefined) {
      parts.log.warn({
        event: 'c-store-refused',
        association: request.association.id,
        status: refusal.status,
        comment: refusal.errorComment,
      });
      return answering(refusal);
    }
    return new StoreOperation(parts, request);
  };
}

function refusalOf({ command, context }: DimseRequest): DimseResponse | undefined {
  if (!isStorageClass(context.abstractSyntaxUid))
    return { status: DIMSE_STATUS.SOP_CLASS_NOT_SUPPORTED, errorComment: 'Not a storage presentation context' };
  if (command.sopClassUid === undefined || command.sopInstanceUid === undefined)
    return { status: DIMSE_STATUS.CANNOT_UNDERSTAND, errorComment: 'No affected SOP class or instance UID' };
  if (!command.hasDataSet) return { status: DIMSE_STATUS.CANNOT_UNDERSTAND, errorComment: 'C-STORE without a data set' };
  return undefined;
}

class StoreOperation implements Operation {
  readonly #log: Logger;
  readonly #request: DimseRequest;
  #sink: InstanceSink | undefined;
  /** Once set, what still comes is dropped: the sender is told when it has sent the whole object. */
  #failure: MeshError | undefined;

  constructor({ ingest, log }: { readonly ingest: Ingest; readonly log: Logger }, request: DimseRequest) {
    this.#log = log;
    this.#request = request;
    const { command, context, association } = request;
    this.#attempt(() => {
      this.#sink = ingest.begin({
        door: 'dimse',
        transferSyntaxUid: context.transferSyntaxUid,
        assigningAuthority: association.assigningAuthority,
        associationId: association.id,
        callingAeTitle: association.callingAeTitle,
        address: association.address,
        expected: {
          ...(command.sopClassUid === undefined ? {} : { sopClassUid: command.sopClassUid }),
          ...(command.sopInstanceUid === undefined ? {} : { sopInstanceUid: command.sopInstanceUid }),
        },
        ...(association.nationalIdIn === undefined ? {} : { nationalIdIn: association.nationalIdIn }),
      });
    });
  }

  write(bytes: Buffer): boolean {
    return this.#attempt(() => this.#sink?.write(bytes) ?? true) ?? true;
  }

  async drained(): Promise<void> {
    try {
      await this.#sink?.drained();
    } catch (error) {
      this.#fail(error);
    }
  }

  async end(): Promise<DimseResponse> {
    try {
      const sink = this.#sink;
      if (sink !== undefined) return responseTo(await sink.end());
    } catch (error) {
      this.#fail(error);
    }
    const failure = this.#failure ?? asMeshError(undefined);
    const response = failureResponse(failure);
    this.#log[failure.code === 'INTERNAL' ? 'error' : 'warn'](
      {
        event: 'c-store-refused',
        association: this.#request.association.id,
        reason: failure.reason,
        status: response.status,
        ...(failure.code === 'INTERNAL' ? { err: failure.cause ?? failure } : {}),
      },
      failure.message,
    );
    return response;
  }

  async abort(): Promise<void> {
    const sink = this.#sink;
    this.#sink = undefined;
    await sink?.abort();
  }

  #attempt<T>(step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= asMeshError(error);
    this.abort().catch((abortError: unknown) =>
      this.#log.error({ event: 'c-store-cleanup-failed', association: this.#request.association.id, err: abortError }),
    );
  }
}

function responseTo(outcome: IngestOutcome): DimseResponse {
  switch (outcome.outcome) {
    case 'stored':
    case 'duplicate':
      return { status: DIMSE_STATUS.SUCCESS };
    case 'quarantined':
      return { status: DIMSE_STATUS.WARNING_KEPT_ASIDE, errorComment: 'Kept aside: this UID is stored with other content' };
  }
}
