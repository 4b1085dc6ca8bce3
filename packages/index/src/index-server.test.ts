import { rm, symlink } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { PurposeOfUse } from '@meridian/shared/generated/meridian/v1/common';
import { callUnary } from '@meridian/shared/grpc';
import { openIndex } from './index-server.ts';
import { reasonOf, withIndex, type TestNode } from './test-network.ts';

const PATIENT = Buffer.alloc(32, 1);

function ask(node: TestNode, holder: TestNode): { history: Promise<unknown>; grant: Promise<unknown> } {
  const asked = { patientKeys: [{ key: PATIENT, epoch: 'e1' }], purposeOfUse: PurposeOfUse.PURPOSE_OF_USE_TREAT, subject: 'doctor-1' };
  return {
    history: callUnary(node.clients.query.patientHistory.bind(node.clients.query), { ...asked, pageToken: '', pageSize: 0 }),
    grant: callUnary(node.clients.grants.issueGrant.bind(node.clients.grants), {
      ...asked,
      holderNode: holder.nodeId,
      studyInstanceUids: ['1.2.1'],
      role: 'radiologist',
    }),
  };
}

test('with an audit log that cannot be written nothing is shown, granted or opened, and access is still withdrawn', async () => {
  await withIndex(async (network) => {
    const [holder, asker] = [await network.addNode('A'), await network.addNode('B')];
    const record = (compact: string): Promise<unknown> =>
      callUnary(asker.clients.consents.recordConsent.bind(asker.clients.consents), { statement: { compact } });
    const feed = await holder.feed();
    feed.send(1, holder.manifest({ studyInstanceUid: '1.2.1', patientKeys: [{ key: PATIENT, epoch: 'e1' }] }));
    await feed.acknowledged(1);
    await record(asker.consent({ patientKey: PATIENT, consentId: 'c-1' }));
    const before = ask(asker, holder);
    expect([await reasonOf(before.history), await reasonOf(before.grant)]).toEqual(['nothing thrown', 'nothing thrown']);

    const log = join(network.index.auditFolder, 'audit.jsonl');
    await network.restart(async () => {
      await rm(log);
      await symlink('/dev/full', log);
    });
    const full = ask(asker, holder);
    expect([await reasonOf(full.history), await reasonOf(full.grant)]).toEqual([
      'RESOURCE_EXHAUSTED AUDIT_UNWRITABLE',
      'RESOURCE_EXHAUSTED AUDIT_UNWRITABLE',
    ]);
    expect(await reasonOf(record(asker.consent({ patientKey: PATIENT, consentId: 'c-2' })))).toBe('RESOURCE_EXHAUSTED AUDIT_UNWRITABLE');
    expect(await reasonOf(record(asker.consent({ patientKey: PATIENT, consentId: 'c-1', status: 'revoked' })))).toBe(
      'RESOURCE_EXHAUSTED AUDIT_UNWRITABLE',
    );
    await network.restart(() => rm(log));
    expect(await reasonOf(ask(asker, holder).grant)).toBe('PERMISSION_DENIED CONSENT_REVOKED');
  });
});

test('a taken port and a second index on one folder are refused in a plain sentence, and leave nothing open', async () => {
  await withIndex(async ({ folder, index }) => {
    const second = await openIndex({ folder }).catch((thrown: unknown) => thrown);
    expect(second).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'NODE_ALREADY_RUNNING' });
    await index.close();
    const other = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as AddressInfo;
    const taken = await openIndex({ folder, ports: { join: port, grpc: 0 } }).catch((thrown: unknown) => thrown);
    expect(taken).toMatchObject({ reason: 'PORT_IN_USE', message: expect.stringContaining(`Port ${port} on 127.0.0.1 is taken`) });
    await new Promise((resolve) => other.close(resolve));
    const again = await openIndex({ folder, ports: { join: port, grpc: 0 } });
    expect(again.joinPort).toBe(port);
    expect(again.grpcPort).toBe(index.grpcPort);
    await again.close();
  });
});
