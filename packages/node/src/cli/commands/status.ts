import type { NodeView } from '../../portal/views.ts';
import type { CommandOutcome, CommandParts } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { bytesText, momentText } from '../terminal.ts';

/** `meridian status`: how the node stands. */
export async function status({ terminal, connect }: CommandParts): Promise<CommandOutcome> {
  const { say } = terminal;
  const client = await connect();
  const node = (await client.get('/node')) as NodeView;
  const line = (label: string, text: string): void => terminal.print(`${label}: ${text}`);
  terminal.print(`${node.hospitalName} ${say('running')} (${client.running.apiUrl})`);
  line(say('node'), node.nodeId ?? say('notJoined'));
  if (node.index !== undefined)
    line(
      say('index'),
      say(node.index.state === 'connected' ? 'indexConnected' : 'indexUnreachable', { since: momentText(node.index.sinceEpochMs) }),
    );
  line(say('ports'), [`AE ${node.aeTitle}`, ...Object.entries(node.ports).map(([name, port]) => `${name} ${port}`)].join(', '));
  const { studies, instances, bytes, freeBytes, quarantined } = node.storage;
  line(say('storage'), say('storageText', { studies, instances, bytes: bytesText(bytes), free: bytesText(freeBytes) }));
  if (node.advertise !== undefined)
    line(
      say('announced'),
      say('announcedText', { acknowledged: node.advertise.acknowledgedSeq, last: node.advertise.lastSeq, pending: node.advertise.pending }),
    );
  if (quarantined > 0) line(say('quarantined'), `${quarantined} (meridian quarantine)`);
  if (node.storage.readOnly) terminal.print(say('readOnly'));
  return { exitCode: EXIT.done, result: { node } };
}
