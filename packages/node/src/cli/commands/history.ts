import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { dateText, momentText, table } from '../terminal.ts';

/** The part of a history that is printed. */
export interface HistoryAnswer {
  readonly person: string;
  readonly studies: readonly {
    readonly studyInstanceUid: string;
    readonly studyDate?: string;
    readonly modalities: readonly string[];
    readonly description?: string;
    readonly instanceCount: number;
    readonly holders: readonly { readonly nodeId: string; readonly name: string; readonly self: boolean }[];
    readonly held: 'local' | 'copy' | 'partial' | 'no';
    readonly differs?: boolean;
    readonly consent: 'allowed' | 'refused' | 'own';
    readonly consentReason?: string;
    readonly mismatch?: readonly { readonly field: string; readonly local: string; readonly fetched: string }[];
  }[];
  readonly coverage: {
    readonly asked: number;
    readonly answered: number;
    readonly notAsked: number;
    readonly nodes: readonly { readonly nodeId: string; readonly name: string; readonly state: string; readonly asOfEpochMs?: number }[];
    readonly indexReachable: boolean;
    readonly answeredAtEpochMs: number;
  };
}

const HELD = { local: 'heldLocal', copy: 'heldCopy', partial: 'heldPartial', no: 'heldNo' } as const;
const CONSENT = { own: 'consentOwn', allowed: 'consentAllowed', refused: 'consentRefused' } as const;

/** `meridian history <person id>`: studies in all hospitals, newest first, and who could not be asked. */
export async function history(
  { terminal, connect, clock }: CommandParts,
  personId: string,
  { purpose }: { purpose: string },
): Promise<CommandOutcome> {
  const { say } = terminal;
  const client = await connect();
  const slow = clock.after(1000, () => terminal.progress(say('asking')));
  const answer = (await client.post('/history', { personId, purpose }).finally(() => slow.cancel())) as HistoryAnswer;
  const { coverage, studies } = answer;
  const alone = coverage.nodes.length === 1 && coverage.nodes[0]?.nodeId === '';
  const complete = (coverage.indexReachable || alone) && coverage.notAsked === 0;

  terminal.print(answer.person);
  const rows = studies.map((study) => [
    dateText(study.studyDate),
    study.modalities.join('/'),
    study.studyInstanceUid,
    String(study.instanceCount),
    study.holders.map((holder) => holder.name).join(' + '),
    say(HELD[study.held]),
    say(CONSENT[study.consent]) + (study.consentReason === undefined ? '' : ` (${study.consentReason})`),
  ]);
  if (rows.length > 0) for (const line of table(say('columns'), rows)) terminal.print(line);
  for (const study of studies) {
    for (const { field, local, fetched } of study.mismatch ?? [])
      terminal.print(`${dateText(study.studyDate)}: ${say('mismatch', { field, local, fetched })}`);
  }
  for (const study of studies.filter(({ differs }) => differs === true)) {
    terminal.print(
      say('differs', {
        study: study.studyInstanceUid,
        holders: study.holders
          .filter(({ self }) => !self)
          .map(({ name, nodeId }) => `${name} (${nodeId})`)
          .join(', '),
      }),
    );
  }
  for (const line of coverageLines(answer, complete, say)) terminal.print(line);
  return { exitCode: complete ? EXIT.done : EXIT.partial, result: { ...answer } };
}

function coverageLines({ coverage, studies }: HistoryAnswer, complete: boolean, say: CommandParts['terminal']['say']): string[] {
  if (coverage.nodes.length === 1 && coverage.nodes[0]?.nodeId === '') return [say('alone')];
  if (!coverage.indexReachable) return [say('indexAway')];
  const away = coverage.nodes.filter((node) => !isAnswered(node.state) && !isStale(node.state));
  const stale = coverage.nodes.filter((node) => isStale(node.state));
  const verdict = complete
    ? [
        ...(studies.length === 0 ? [say('noneFound')] : []),
        say('allAsked', { asked: coverage.asked, time: momentText(coverage.answeredAtEpochMs) }),
      ].join(' ')
    : say('someNotAsked', {
        found: studies.length,
        missing: coverage.notAsked,
        asked: coverage.asked,
        names: away.map((node) => node.name).join(', '),
      });
  const unverified = coverage.nodes.filter((node) => node.state === 'unverified');
  return [
    verdict,
    ...unverified.map((node) => say('unverified', { name: node.name })),
    ...stale.map((node) => say('staleSince', { name: node.name, since: momentText(node.asOfEpochMs ?? 0) })),
  ];
}

function isAnswered(state: string): boolean {
  return state === 'current' || state === 'self';
}

function isStale(state: string): boolean {
  return state === 'stale';
}
