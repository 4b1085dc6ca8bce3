import { COMMAND, readCommandSet, type DimseCommand } from './command-set.ts';
import { CONTROL_COMMAND, CONTROL_LAST } from './pdu.ts';
import type { AcceptedContext } from './presentation-contexts.ts';
import { protocolError } from './protocol-error.ts';
import type { Operation } from './service.ts';

/** What the reader of messages needs of its association. */
export interface MessageHandler {
  /** A command set is whole; the operation receives its data set, if it has one. */
  begin(command: DimseCommand, context: AcceptedContext): Operation;
  /** The operation takes no more for now; stop reading until it has drained. */
  full(operation: Operation): void;
  /** Command and data set are whole. */
  end(operation: Operation, command: DimseCommand, context: AcceptedContext): void;
}

/** Puts PDVs together into DIMSE messages, one at a time; data sets pass through unkept. @see DICOM PS3.8 E, PS3.7 6.3 */
export class MessageReader {
  readonly #contexts: ReadonlyMap<number, AcceptedContext>;
  readonly #mostCommandBytes: number;
  readonly #handler: MessageHandler;
  #context: AcceptedContext | undefined;
  #control = 0;
  #commandParts: Buffer[] = [];
  #commandBytes = 0;
  #receiving: { readonly operation: Operation; readonly command: DimseCommand } | undefined;

  constructor(parts: {
    readonly contexts: ReadonlyMap<number, AcceptedContext>;
    readonly mostCommandBytes: number;
    readonly handler: MessageHandler;
  }) {
    this.#contexts = parts.contexts;
    this.#mostCommandBytes = parts.mostCommandBytes;
    this.#handler = parts.handler;
  }

  /** True from the first fragment of a command to the last of its data set. */
  get inMessage(): boolean {
    return this.#context !== undefined;
  }

  pdvBegins(contextId: number, control: number): void {
    const context = this.#contexts.get(contextId);
    if (context === undefined)
      throw protocolError('PDU_PARAMETER_INVALID', `Data came for presentation context ${contextId}, which was not accepted.`);
    if (this.#context !== undefined && this.#context !== context)
      throw protocolError('PDU_PARAMETER_UNEXPECTED', 'One message came over two presentation contexts.');
    const isCommand = (control & CONTROL_COMMAND) !== 0;
    if (isCommand === (this.#receiving !== undefined))
      throw protocolError(
        'PDU_PARAMETER_UNEXPECTED',
        isCommand ? 'A command came where a data set had to.' : 'A data set came without a command.',
      );
    this.#context = context;
    this.#control = control;
  }

  pdvBytes(bytes: Buffer): void {
    if (this.#receiving !== undefined) {
      const { operation } = this.#receiving;
      if (!operation.write(bytes)) this.#handler.full(operation);
      return;
    }
    this.#commandBytes += bytes.length;
    if (this.#commandBytes > this.#mostCommandBytes)
      throw protocolError('PDU_PARAMETER_INVALID', `A command set has more than ${this.#mostCommandBytes} bytes.`);
    this.#commandParts.push(bytes);
  }

  pdvEnds(): void {
    if ((this.#control & CONTROL_LAST) === 0 || this.#context === undefined) return;
    if (this.#receiving === undefined) this.#commandEnds(this.#context);
    else this.#messageEnds(this.#receiving.operation, this.#receiving.command, this.#context);
  }

  /** The association is over: an unfinished operation is given up. */
  async abort(): Promise<void> {
    const receiving = this.#receiving;
    this.#receiving = undefined;
    this.#context = undefined;
    this.#commandParts = [];
    await receiving?.operation.abort();
  }

  #commandEnds(context: AcceptedContext): void {
    const command = readCommandSet(Buffer.concat(this.#commandParts));
    this.#commandParts = [];
    this.#commandBytes = 0;
    if (command.commandField === COMMAND.C_CANCEL_RQ) {
      // Nothing that we serve can be cancelled once it has begun; PS3.7 9.3.2.3 gives a C-CANCEL no answer.
      this.#context = undefined;
      return;
    }
    if ((command.commandField & COMMAND.RESPONSE) !== 0) throw protocolError('PDU_UNEXPECTED', 'A response came, and nothing was asked.');
    const operation = this.#handler.begin(command, context);
    if (command.hasDataSet) this.#receiving = { operation, command };
    else this.#messageEnds(operation, command, context);
  }

  #messageEnds(operation: Operation, command: DimseCommand, context: AcceptedContext): void {
    this.#receiving = undefined;
    this.#context = undefined;
    this.#handler.end(operation, command, context);
  }
}
