import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { MeshError } from '@meridian/shared/errors';
import type { TransferFrame } from '@meridian/shared/generated/meridian/v1/transfer';
import { silentLog } from '@meridian/shared/log';
import { systemClock, type Clock } from '@meridian/shared/platform/clock';
import { openTestNetwork, type TestMember, type TestNetwork } from '../peer/test-network.ts';
import { decodeStep, encodeStep, type Step } from './codec.ts';
import { TRANSFER_PROTOCOL } from './limits.ts';
import { serveTransfers, type TransferServer } from './serve.ts';
import {
  fetchRequest,
  fetchStudy,
  makeAudit,
  makeConsent,
  makeFetchStore,
  makeStudy,
  STUDY_UID,
  type TestAudit,
  type TestConsent,
  type TestStudy,
} from './test-parts.ts';

const MIB = 1024 * 1024;
let network: TestNetwork;
let holder: TestMember;
let asker: TestMember;
let consent: TestConsent;
let audit: TestAudit;
let server: TransferServer | undefined;

beforeEach(async () => {
  network = await openTestNetwork(2);
  [holder, asker] = network.members as [TestMember, TestMember];
  consent = makeConsent(network, holder, asker);
  audit = makeAudit();
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await network.close();
});

async function serve(study: TestStudy, clock: Clock = systemClock): Promise<TransferServer> {
  server = await serveTransfers({
    peerHost: holder.host,
    store: study.store,
    advertise: study.advertise,
    consent: consent.judge,
    audit,
    clock,
    log: silentLog,
  });
  return server;
}

async function reasonOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'no error',
    (error: unknown) => (error instanceof MeshError ? error.reason : String(error)),
  );
}

test('a study arrives whole, in an order that shows the middle first, and both sides write it down', async () => {
  const sizes = Array.from({ length: 300 }, (_, index) =>
    index === 7 ? 0 : index === 8 ? 9 * MIB + 5 : index === 9 ? 20 * MIB : 20_000 + index * 997,
  );
  const study = makeStudy(holder, sizes);
  await serve(study);
  const store = makeFetchStore();
  const askersAudit = makeAudit();
  const seen: number[] = [];
  const result = await fetchStudy(
    fetchRequest({
      asker,
      holder,
      study,
      store,
      consent,
      audit: askersAudit,
      onProgress: (progress) => seen.push(progress.instancesVerified),
    }),
  );

  expect(result).toMatchObject({
    instances: 300,
    bytes: study.totalBytes,
    resumedInstances: 0,
    digestMismatches: 0,
    transferLog: { instancesAsked: 300, instancesVerified: 300, bytesReceived: study.totalBytes },
  });
  expect(store.durable.size).toBe(300);
  expect(store.completed).toEqual([STUDY_UID]);
  expect(seen[0]).toBe(0);
  expect(seen.at(-1)).toBe(300);
  // Series 0, 1 and 2 hold the indices 0,3,6… / 1,4,7… / 2,5,8…: the middle of each comes first.
  expect(store.begun.slice(0, 3).map((sop) => Number(sop.split('.').at(-1)))).toEqual([151, 152, 153]);
  expect(audit.events.map((event) => [event.type, event.detail?.['step']])).toEqual([
    ['RELEASE', 'begin'],
    ['RELEASE', 'receipt'],
  ]);
  expect(audit.events[0]).toMatchObject({ jti: 'jti-1', study: STUDY_UID, peer: asker.nodeId, subject: 'doctor', instances: 300 });
  expect(askersAudit.events).toMatchObject([{ type: 'RECEIVE', jti: 'jti-1', instances: 300, bytes: study.totalBytes }]);
});

test('what is held by digest is not asked for; an interrupted fetch asks for the rest alone', async () => {
  const study = makeStudy(
    holder,
    Array.from({ length: 200 }, () => 400_000),
  );
  await serve(study);
  const store = makeFetchStore();
  const stop = new AbortController();
  const broken = reasonOf(
    fetchStudy(
      fetchRequest({
        asker,
        holder,
        study,
        store,
        consent,
        signal: stop.signal,
        onProgress: ({ instancesVerified }) => {
          if (instancesVerified === 60) stop.abort(new MeshError('CANCELLED', 'TRANSFER_CANCELLED', 'by the test'));
        },
      }),
    ),
  );
  expect(await broken).toBe('TRANSFER_CANCELLED');
  const held = store.durable.size;
  expect(held).toBeGreaterThanOrEqual(60);
  expect(held).toBeLessThan(200);

  const again = makeFetchStore(store.durable);
  const result = await fetchStudy(fetchRequest({ asker, holder, study, store: again, consent }));
  expect(result).toMatchObject({ resumedInstances: held, transferLog: { instancesAsked: 200 - held } });
  expect(store.durable.size).toBe(200);
});

test('either end may die in the middle: what was durable is not sent again, and at most 24 MiB of the rest is', async () => {
  const study = makeStudy(
    holder,
    Array.from({ length: 300 }, () => 400_000),
  );
  await serve(study);
  const durable = new Map<string, Buffer>();
  const asked: string[] = [];
  let receivedTwice = 0;
  for (const [attempt, victim] of ['holder', 'asker', 'holder', 'nobody'].entries()) {
    const store = makeFetchStore(durable);
    const before = new Set(durable.keys());
    const work = fetchStudy(
      fetchRequest({
        asker,
        holder,
        study,
        store,
        consent,
        onProgress: ({ instancesVerified }) => {
          if (instancesVerified < 60 * (attempt + 1)) return;
          // The connection dies without a word, as it does when a process is killed.
          if (victim === 'holder') holder.host.disconnect(asker.nodeId);
          if (victim === 'asker') asker.host.disconnect(holder.nodeId);
        },
      }),
    );
    expect(await reasonOf(work)).toBe(victim === 'nobody' ? 'no error' : 'PEER_GONE');
    expect(store.begun.filter((sop) => before.has(sop))).toEqual([]);
    receivedTwice += store.begun.filter((sop) => asked.includes(sop)).length * 400_000;
    asked.push(...store.begun);
  }
  expect(durable.size).toBe(300);
  expect(receivedTwice).toBeLessThanOrEqual(3 * 24 * MIB);
});

test('a revoked consent stops a running transfer with CLOSE, and not a byte follows', async () => {
  const study = makeStudy(
    holder,
    Array.from({ length: 400 }, () => 500_000),
  );
  const running = await serve(study);
  const stream = await asker.host.dial(holder.nodeId, TRANSFER_PROTOCOL);
  try {
    stream.send(encodeStep({ $case: 'hello', value: { grant: { compact: consent.grant() }, studyInstanceUid: STUDY_UID, codings: [] } }));
    const steps: Step[] = [];
    let requestId = 0;
    let ended = 0;
    const ask = (): void => {
      stream.send(
        encodeStep({
          $case: 'get',
          value: { requestId, sopInstanceUid: study.entries[requestId]!.sopInstanceUid, offset: 0n, length: 0n },
        }),
      );
      requestId += 1;
    };
    for await (const frame of stream.messages()) {
      const step = decodeStep(frame)!;
      steps.push(step);
      if (step.$case === 'accept') for (let first = 0; first < 30; first += 1) ask();
      if (step.$case === 'data' && step.value.last) ask();
      if (steps.length === 50) ended = running.revoke(consent.revoke());
    }
    expect(ended).toBe(1);
    expect(steps.at(-1)).toMatchObject({ $case: 'close', value: { reason: 'CONSENT_REVOKED' } });
    expect(steps.filter((step) => step.$case === 'close')).toHaveLength(1);
    expect(running.running()).toEqual([]);
  } finally {
    await stream.close();
  }
  for (let look = 0; look < 200 && audit.events.length < 2; look += 1) await systemClock.sleep(10);
  expect(audit.events.at(-1)).toMatchObject({ type: 'RELEASE', reason: 'CONSENT_REVOKED', detail: { step: 'end' } });
  const store = makeFetchStore();
  const error = await fetchStudy(fetchRequest({ asker, holder, study, store, consent })).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'PERMISSION_DENIED', reason: 'CONSENT_REVOKED' });
  expect((error as MeshError).message).toContain('patient');
  expect(store.begun).toEqual([]);
  expect(audit.events.at(-1)).toMatchObject({ type: 'DENY', reason: 'CONSENT_REVOKED', peer: asker.nodeId });
});

test('a fetch that is running when consent is revoked ends with the reason and keeps what it verified', async () => {
  const study = makeStudy(
    holder,
    Array.from({ length: 400 }, () => 500_000),
  );
  const running = await serve(study);
  const store = makeFetchStore();
  let revoked = false;
  const error = await fetchStudy(
    fetchRequest({
      asker,
      holder,
      study,
      store,
      consent,
      onProgress: ({ instancesVerified }) => {
        if (instancesVerified > 20 && !revoked) {
          revoked = true;
          running.revoke(consent.revoke());
        }
      },
    }),
  ).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ reason: 'CONSENT_REVOKED' });
  expect(store.durable.size).toBeLessThan(400);
  expect(store.completed).toEqual([]);
});

test('each wrong grant has its own reason, is written down, and not a byte is released', async () => {
  const study = makeStudy(holder, [1000]);
  await serve(study);
  const other = await network.add(true);
  const good = consent.grant();
  const cases: [string, string, TestMember?][] = [
    ['GRANT_MALFORMED', 'not.a.grant'],
    ['GRANT_AUDIENCE', consent.grant({ aud: asker.nodeId })],
    ['GRANT_PEER', good, other],
    ['GRANT_PEER', consent.grant({ cnf: { peerId: other.host.peerId } })],
    ['GRANT_EXPIRED', consent.grant({ iat: 1_000_000, nbf: 1_000_000, exp: 1_000_300 })],
    ['CONSENT_SCOPE', consent.grant({ pou: 'HOPERAT' })],
    ['CONSENT_SIGNATURE', consent.grant({ cst: { hash: 'a'.repeat(64), seq: 1, statement: consent.consent.compact } })],
  ];
  for (const [reason, grant, from] of cases) {
    const store = makeFetchStore();
    const work = fetchStudy(fetchRequest({ asker: from ?? asker, holder, study, store, consent, grant }));
    expect([reason, await reasonOf(work)]).toEqual([reason, reason]);
    expect(store.begun).toEqual([]);
  }
  expect(audit.events.map((event) => event.type)).toEqual(cases.map(() => 'DENY'));
  expect(await reasonOf(fetchStudy(fetchRequest({ asker, holder, study, store: makeFetchStore(), consent, grant: good })))).toBe(
    'no error',
  );
});

test('a dialer that says nothing sensible is closed; a log that cannot be written releases nothing', async () => {
  const study = makeStudy(holder, [1000]);
  await serve(study);
  const say = async (...payloads: Uint8Array[]): Promise<(Step | undefined)[]> => {
    const stream = await asker.host.dial(holder.nodeId, TRANSFER_PROTOCOL);
    try {
      for (const payload of payloads) stream.send(payload);
      const answers: (Step | undefined)[] = [];
      for await (const frame of stream.messages()) answers.push(decodeStep(frame));
      return answers;
    } finally {
      await stream.close();
    }
  };
  const hello = (grant: string): Uint8Array =>
    encodeStep({ $case: 'hello', value: { grant: { compact: grant }, studyInstanceUid: STUDY_UID, codings: [] } });
  const get = (requestId: number, length: bigint, offset = 0n): Uint8Array =>
    encodeStep({ $case: 'get', value: { requestId, sopInstanceUid: study.entries[0]!.sopInstanceUid, offset, length } });
  expect(await say(Buffer.alloc(5000, 0xff))).toMatchObject([{ $case: 'close', value: { reason: 'FRAME_INVALID' } }]);
  expect(await say(get(1, 0n))).toMatchObject([{ $case: 'close', value: { reason: 'HELLO_MISSING' } }]);
  expect(await say(encodeStep({ $case: 'hello', value: { grant: undefined, studyInstanceUid: 'x', codings: [] } }))).toMatchObject([
    { $case: 'close', value: { reason: 'UID_INVALID' } },
  ]);
  expect(await say(hello(consent.grant()), hello(consent.grant()))).toContainEqual(
    expect.objectContaining({ $case: 'close', value: expect.objectContaining({ reason: 'STEP_UNEXPECTED' }) }),
  );
  expect(await say(hello(consent.grant({ bytes: 1500 })), get(1, 0n), get(2, 0n))).toContainEqual(
    expect.objectContaining({ $case: 'close', value: expect.objectContaining({ reason: 'GRANT_BYTES_EXCEEDED' }) }),
  );

  const ranges = await say(
    hello(consent.grant()),
    get(1, 2000n),
    get(2, 1n, 1001n),
    get(3, 5n, 10n),
    encodeStep({ $case: 'get', value: { requestId: 4, sopInstanceUid: '1.2.3', offset: 0n, length: 0n } }),
    encodeStep({
      $case: 'receipt',
      value: { studyInstanceUid: STUDY_UID, manifestVersion: 1n, instancesVerified: 0, bytesReceived: 0n, instancesHeldBefore: 0 },
    }),
  );
  expect(ranges[0]).toMatchObject({ $case: 'accept' });

  audit.append = () => Promise.reject(new MeshError('RESOURCE_EXHAUSTED', 'AUDIT_UNWRITABLE', 'full'));
  expect(await say(hello(consent.grant()))).toMatchObject([{ $case: 'close', value: { reason: 'AUDIT_UNWRITABLE' } }]);
});

test('silent streams of one member take no place of another, and end soon', async () => {
  const study = makeStudy(holder, [1000]);
  const other = await network.add(true);
  const otherConsent = makeConsent(network, holder, other);
  const judge = {
    decide: (compact: string, presented: Parameters<typeof consent.judge.decide>[1]) =>
      (presented.livePeerId === other.host.peerId ? otherConsent : consent).judge.decide(compact, presented),
  };
  server = await serveTransfers({
    peerHost: holder.host,
    store: study.store,
    advertise: study.advertise,
    consent: judge,
    audit,
    clock: systemClock,
    log: silentLog,
    limits: { maxServed: 1 },
  });
  const silent = await Promise.all(Array.from({ length: 8 }, () => asker.host.dial(holder.nodeId, TRANSFER_PROTOCOL)));
  const since = performance.now();
  const ended = silent.map(async (stream) => {
    const answers = [];
    for await (const frame of stream.messages()) answers.push(decodeStep(frame));
    return answers;
  });
  const grab = (from: typeof other, parts: { consent: TestConsent }): Promise<string> =>
    reasonOf(fetchStudy(fetchRequest({ asker: from, holder, study, store: makeFetchStore(), ...parts })));
  expect(await grab(other, { consent: otherConsent })).toBe('no error');
  for (const answers of await Promise.all(ended)) expect(answers).toMatchObject([{ $case: 'close', value: { reason: 'HELLO_MISSING' } }]);
  expect(performance.now() - since).toBeLessThan(8_000);
  await Promise.all(silent.map((stream) => stream.close()));

  // A place is taken by a grant, and there is one here.
  const hello = encodeStep({ $case: 'hello', value: { grant: { compact: consent.grant() }, studyInstanceUid: STUDY_UID, codings: [] } });
  const running = await asker.host.dial(holder.nodeId, TRANSFER_PROTOCOL);
  running.send(hello);
  await running.messages()[Symbol.asyncIterator]().next();
  expect(await grab(other, { consent: otherConsent })).toBe('TRANSFERS_BUSY');
  await running.close();
});

test('a holder that serves other bytes is asked once more, then the fetch fails; nothing of it is stored', async () => {
  const study = makeStudy(
    holder,
    Array.from({ length: 30 }, () => 50_000),
  );
  await serve(study);
  const victim = study.entries[17]!.sopInstanceUid;
  study.corrupt.add(victim);
  const store = makeFetchStore();
  const askersAudit = makeAudit();
  expect(await reasonOf(fetchStudy(fetchRequest({ asker, holder, study, store, consent, audit: askersAudit })))).toBe('DIGEST_MISMATCH');
  expect(store.begun.filter((sop) => sop === victim)).toHaveLength(2);
  expect(store.durable.has(victim)).toBe(false);
  expect(store.completed).toEqual([]);
  expect(askersAudit.events).toMatchObject([{ type: 'RECEIVE', reason: 'DIGEST_MISMATCH', detail: { digestMismatches: 2 } }]);

  study.corrupt.clear();
  const repaired = await fetchStudy(fetchRequest({ asker, holder, study, store: makeFetchStore(store.durable), consent }));
  expect(repaired.resumedInstances + repaired.transferLog.instancesAsked).toBe(30);
});

test('a lying holder fails the fetch with a plain reason and gets nothing stored', async () => {
  const study = makeStudy(holder, [300_000, 300_000]);
  const forged = makeStudy({ nodeId: holder.nodeId, signingKey: asker.signingKey }, [300_000, 300_000]);
  const older = makeStudy(holder, [300_000, 300_000]);
  const granted = makeStudy(holder, [300_000, 300_000], 2n);
  const { list } = await study.advertise.instanceList();
  const accept: Step = {
    $case: 'accept',
    value: { manifest: study.manifest, coding: 'identity', windowBytes: 16_777_216n, dataAddresses: [], dataToken: Buffer.alloc(0) },
  };
  const lists: Step = { $case: 'list', value: { piece: list, last: true } };
  const data = (requestId: number, length: number, last: boolean): Step => ({
    $case: 'data',
    value: { requestId, bytes: Buffer.alloc(length, 9), last, failedReason: '' },
  });
  const lies: [string, Step[], TestStudy?][] = [
    ['SIGNATURE_INVALID', [{ ...accept, value: { ...accept.value, manifest: forged.manifest } }]],
    ['PEER_PROTOCOL', [{ ...accept, value: { ...accept.value, manifest: older.manifest } }], granted],
    ['PEER_PROTOCOL', [{ ...accept, value: { ...accept.value, windowBytes: 1n } }]],
    ['PEER_PROTOCOL', [data(1, 10, true)]],
    ['INSTANCE_LIST_MISMATCH', [accept, { $case: 'list', value: { piece: Buffer.concat([list, Buffer.of(0)]), last: true } }]],
    ['DATA_UNASKED', [accept, lists, data(7, 100, true)]],
    ['DATA_LENGTH', [accept, lists, data(1, 200_000, false), data(1, 200_000, true)]],
    ['DATA_LENGTH', [accept, lists, data(1, 200_000, true)]],
    ['DATA_DRIP', [accept, lists, data(1, 10, false)]],
    [
      'INSTANCE_UNAVAILABLE',
      [accept, lists, { $case: 'data', value: { requestId: 1, bytes: Buffer.alloc(0), last: true, failedReason: 'INSTANCE_UNKNOWN' } }],
    ],
    ['PEER_CLOSED', [accept, { $case: 'close', value: { status: 99, reason: '<script>', message: 'bad' } }]],
    ['PEER_GONE', [accept, lists, data(1, 200_000, false)]],
  ];
  let script: readonly Step[] = [];
  await holder.host.handle(TRANSFER_PROTOCOL, async (stream) => {
    for await (const _hello of stream.messages()) break;
    for (const step of script) stream.send(encodeStep(step));
  });
  for (const [reason, steps, study2] of lies) {
    script = steps;
    const store = makeFetchStore();
    expect([reason, await reasonOf(fetchStudy(fetchRequest({ asker, holder, study: study2 ?? study, store, consent })))]).toEqual([
      reason,
      reason,
    ]);
    expect(store.durable.size).toBe(0);
    expect(store.completed).toEqual([]);
  }
});

test('no byte leaves after the lease, which runs on the monotonic clock; a renewed grant carries on', async () => {
  const study = makeStudy(
    holder,
    Array.from({ length: 60 }, () => 400_000),
  );
  let aheadMs = 0;
  const timers: { atMs: number; call: () => void }[] = [];
  const clock: Clock = {
    ...systemClock,
    monotonicMs: () => systemClock.monotonicMs() + aheadMs,
    after(ms, call) {
      const timer = { atMs: clock.monotonicMs() + ms, call };
      timers.push(timer);
      return { cancel: () => void timers.splice(timers.indexOf(timer), timers.includes(timer) ? 1 : 0) };
    },
  };
  const pass = (ms: number): void => {
    aheadMs += ms;
    for (const timer of [...timers].filter(({ atMs }) => atMs <= clock.monotonicMs())) {
      timers.splice(timers.indexOf(timer), 1);
      timer.call();
    }
  };
  await serve(study, clock);
  const run = async (renewGrant: () => Promise<string>, steps: number[]): Promise<{ reason: string; held: number }> => {
    const store = makeFetchStore();
    const waits = [...steps];
    const reason = await reasonOf(
      fetchStudy(
        fetchRequest({
          asker,
          holder,
          study,
          store,
          consent,
          clock,
          renewGrant,
          onProgress: ({ instancesVerified }) => {
            if (instancesVerified === 5 || instancesVerified === 6) pass(waits.shift() ?? 0);
          },
        }),
      ),
    );
    return { reason, held: store.durable.size };
  };
  expect((await run(() => Promise.reject(new MeshError('UNAVAILABLE', 'INDEX_UNREACHABLE', 'away')), [331_000])).reason).toBe(
    'GRANT_EXPIRED',
  );
  expect(
    await run(async () => Promise.reject(new MeshError('PERMISSION_DENIED', 'CONSENT_REVOKED', 'withdrawn')), [245_000]),
  ).toMatchObject({ reason: 'CONSENT_REVOKED' });
  expect(await run(async () => consent.grant(), [245_000])).toMatchObject({ reason: 'no error', held: 60 });
  expect(audit.events.some((event) => event.detail?.['step'] === 'renew')).toBe(true);
});

test('memory stays flat while a study of a thousand instances goes by', async () => {
  const study = makeStudy(
    holder,
    Array.from({ length: 1000 }, () => 531_000),
  );
  await serve(study);
  global.gc?.();
  let peak = 0;
  const watch = setInterval(() => {
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    peak = Math.max(peak, arrayBuffers + heapUsed);
  }, 20);
  const before = process.memoryUsage();
  try {
    const result = await fetchStudy(fetchRequest({ asker, holder, study, store: makeFetchStore(), consent }));
    expect(result.transferLog.bytesVerified).toBe(531_000_000);
  } finally {
    clearInterval(watch);
  }
  expect(peak - before.arrayBuffers - before.heapUsed).toBeLessThan(200 * MIB);
});

test('DATA frames are read by the generated decoder, and ours reads what the generated encoder writes', async () => {
  const { encodeDataHead } = await import('./codec.ts');
  const { TransferFrame: generated } = await import('@meridian/shared/generated/meridian/v1/transfer');
  for (const size of [0, 1, 127, 128, 20_000]) {
    for (const last of [true, false]) {
      const value = { requestId: 300, bytes: Buffer.alloc(size, 3), last, failedReason: '' };
      const sent = Buffer.concat([encodeDataHead({ requestId: 300, length: size, last }), value.bytes]);
      const frame: TransferFrame = generated.decode(sent);
      expect(frame.step).toMatchObject({ $case: 'data', value });
      expect(decodeStep(encodeStep({ $case: 'data', value }))).toMatchObject({ $case: 'data', value });
      expect(decodeStep(sent)).toMatchObject({ $case: 'data', value });
    }
  }
});
