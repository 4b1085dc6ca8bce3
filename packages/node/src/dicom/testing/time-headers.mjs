/** Times the header reader on a CT-like header of 64 KiB: `node packages/node/src/dicom/testing/time-headers.mjs`. Prints JSON. */
import { createHeaderReader } from '../header-reader.ts';
import { EXPLICIT_VR_LITTLE_ENDIAN } from '../transfer-syntaxes.ts';
import { element, identityElements } from './build-dataset.ts';

const ROUNDS = 3000;
const text = ['LO', 'SH', 'DS', 'IS', 'CS', 'UI', 'TM', 'DA'];
const values = {
  LO: 'Vendor value',
  SH: 'Short',
  DS: '1.25\\-3.5e2\\7',
  IS: '512',
  CS: 'ORIGINAL\\PRIMARY',
  UI: '1.2.840.113619.2.5.1762583153',
  TM: '101112.5',
  DA: '20260102',
};
const parts = [identityElements()];
for (let index = 0; index < 250; index++) {
  const vr = text[index % text.length];
  parts.push(element(0x0029_1000 + index, vr, values[vr]));
}
parts.push(element(0x0029_1fff, 'OB', Buffer.alloc(54_000, 1)), element(0x7fe0_0010, 'OW', Buffer.alloc(524_288)));
const dataset = Buffer.concat(parts);

function once() {
  const reader = createHeaderReader({ transferSyntaxUid: EXPLICIT_VR_LITTLE_ENDIAN });
  for (let at = 0; at < dataset.length; at += 131_072) reader.push(dataset.subarray(at, at + 131_072));
  return reader.finish();
}

for (let round = 0; round < ROUNDS; round++) once();
const started = performance.now();
const cpuBefore = process.cpuUsage();
for (let round = 0; round < ROUNDS; round++) once();
const elapsedMs = performance.now() - started;
const cpu = process.cpuUsage(cpuBefore);
const cpuMs = (cpu.user + cpu.system) / 1000;
const header = once();
process.stdout.write(
  `${JSON.stringify({ headersPerSecond: Math.round((ROUNDS / elapsedMs) * 1000), headersPerCpuSecond: Math.round((ROUNDS / cpuMs) * 1000), headerBytes: header.headerBytes, elements: header.topLevel.tags.length, rounds: ROUNDS })}\n`,
);
