import { expect, test } from '@jest/globals';
import type { AuditEvent } from '@meridian/shared/audit-log';
import { MeshError } from '@meridian/shared/errors';
import { manualClock } from '../store/testing/stores.ts';
import type { ReadEvent } from './parts.ts';
import { auditReads } from './read-audit.ts';
import { ask, openArchive, store } from './testing/open-archive.ts';
import { instanceFile } from './testing/instance-file.ts';

test('a study is written down once for each kind of reading and quarter of an hour, and is not shown while it cannot be', async () => {
  const events: AuditEvent[] = [];
  let isFull = false;
  const clock = manualClock();
  const onRead = auditReads({
    clock,
    subject: 'doctor',
    audit: {
      append: async (event) =>
        isFull ? Promise.reject(new MeshError('RESOURCE_EXHAUSTED', 'AUDIT_UNWRITABLE', 'full')) : void events.push(event),
    },
  });
  const archive = await openArchive({ onRead });
  const address = (study: string): string => `/studies/${study}/series/${study}.1/instances/${study}.1.1`;
  const statuses = async (study: string): Promise<number[]> => {
    const answers = [];
    for (const [path, accept] of [
      ['/metadata', ''],
      ['/rendered', ''],
      ['/frames/1', ''],
      ['', 'application/dicom'],
      ['', 'application/dicom'],
    ] as const)
      answers.push(await ask(archive, `${address(study)}${path}`, { headers: accept === '' ? {} : { accept } }));
    return answers.map(({ status }) => status);
  };
  try {
    for (const study of ['1.2.40', '1.2.41'])
      await store(archive, [instanceFile({ study, series: `${study}.1`, instance: `${study}.1.1` }, {})]);
    expect(await statuses('1.2.40')).toEqual([200, 200, 200, 200, 200]);
    const read = [
      { type: 'VIEW', study: '1.2.40', subject: 'doctor', instances: 1, detail: { transaction: 'metadata' } },
      { type: 'EXPORT', study: '1.2.40', subject: 'doctor', instances: 1, detail: { transaction: 'retrieve' } },
    ];
    expect(events).toEqual(read);
    isFull = true;
    expect(await statuses('1.2.40')).toEqual([200, 200, 200, 200, 200]);
    for (const status of await statuses('1.2.41')) expect(status).toBeGreaterThanOrEqual(400);
    expect((await ask(archive, `${address('1.2.41')}/metadata`)).json()).toMatchObject({ reason: 'AUDIT_UNWRITABLE' });
    isFull = false;
    clock.advance(15 * 60_000);
    expect(await statuses('1.2.41')).toEqual([200, 200, 200, 200, 200]);
    expect(await statuses('1.2.40')).toEqual([200, 200, 200, 200, 200]);
    expect(events.map(({ type, study }) => `${type} ${study}`)).toEqual([
      'VIEW 1.2.40',
      'EXPORT 1.2.40',
      'VIEW 1.2.41',
      'EXPORT 1.2.41',
      'VIEW 1.2.40',
      'EXPORT 1.2.40',
    ]);
  } finally {
    await archive.close();
  }
});

test('reads at one time wait for the one event', async () => {
  let release = (): void => undefined;
  let appended = 0;
  const onRead = auditReads({
    clock: manualClock(),
    subject: 'doctor',
    audit: { append: () => new Promise((resolve) => ((appended += 1), (release = resolve))) },
  });
  const event: ReadEvent = { kind: 'view', transaction: 'rendered', studyInstanceUid: '1.2.3', instances: 1, request: undefined as never };
  let shown = 0;
  const both = Promise.all([onRead(event), onRead(event)].map((read) => read.then(() => (shown += 1))));
  await Promise.resolve();
  expect([appended, shown]).toEqual([1, 0]);
  release();
  await both;
  expect([appended, shown]).toEqual([1, 2]);
});
