import type { Source } from './admission.ts';
import type { DimseCommand, DimseResponse } from './command-set.ts';
import type { AcceptedContext } from './presentation-contexts.ts';

/** What a service may know of the association that a request came on. */
export interface AssociationFacts extends Source {
  readonly id: string;
  readonly callingAeTitle: string;
  readonly address: string;
}

/** One DIMSE request: its command set, and where it came from. */
export interface DimseRequest {
  readonly command: DimseCommand;
  readonly context: AcceptedContext;
  readonly association: AssociationFacts;
}

/** A request being received and answered. */
export interface Operation {
  /** Takes bytes of the data set, as they were on the wire; false: wait for `drained()`. */
  write(bytes: Buffer): boolean;
  drained(): Promise<void>;
  /** The whole data set is here (or there is none): does the work, then answers. Never rejects for what the peer did. */
  end(): Promise<DimseResponse>;
  /** The association ended before the data set did. */
  abort(): Promise<void>;
}

/** A DIMSE service: opens an operation for a request. */
export type DimseService = (request: DimseRequest) => Operation;

/** An operation that drops the data set, whatever its size, and gives this answer. */
export function answering(response: DimseResponse): Operation {
  return {
    write: () => true,
    drained: async () => undefined,
    end: async () => response,
    abort: async () => undefined,
  };
}
