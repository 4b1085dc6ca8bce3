import { expect, test } from '@jest/globals';
import { readMultipart, type MultipartLimits } from './multipart-reader.ts';

interface Read {
  headers: Record<string, string>;
  body: string;
}

/** Feeds the text in pieces of one size and collects what comes out. */
async function read(text: string | Buffer, boundary: string, pieceBytes: number, limits?: MultipartLimits): Promise<Read[]> {
  const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
  async function* pieces(): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  }
  const parts: Read[] = [];
  for await (const part of readMultipart(pieces(), boundary, limits)) {
    const chunks: Buffer[] = [];
    for await (const chunk of part.body) chunks.push(chunk);
    parts.push({ headers: Object.fromEntries(part.headers), body: Buffer.concat(chunks).toString('latin1') });
  }
  return parts;
}

const SIZES = [1, 2, 3, 7, 64, 100_000];

test('parts are told apart however the bytes are cut, and boundary look-alikes stay content', async () => {
  const bodies = [
    '',
    'a',
    ' --B',
    '\r\n--',
    '\r\n--Bx',
    '\r\n--B -\r\n',
    'x--B\r\ny',
    '\n--B\r\n is content where lines end in CRLF',
    '\r',
    '\n',
    '\r\n',
    '\r\n--B\r',
    'end\r',
  ];
  const text = `preamble\r\nmore\r\n--B \t\r\nContent-Type: application/dicom\r\nX-Long: a\r\n b\r\n\r\n${bodies.join('\r\n--B\r\n\r\n')}\r\n--B--\r\nepilogue --B`;
  for (const size of SIZES) {
    const parts = await read(text, 'B', size);
    expect(parts.map((part) => part.body)).toEqual(bodies);
    expect(parts[0]?.headers).toEqual({ 'content-type': 'application/dicom', 'x-long': 'a b' });
  }
});

test('lines that end in LF alone, no preamble, no epilogue, and an empty body without its own line break are understood', async () => {
  for (const size of SIZES) {
    expect((await read('--B\nContent-Type: a/b\n\none\r\n--B\n\ntwo\n--B--', 'B', size)).map((part) => part.body)).toEqual([
      'one\r',
      'two',
    ]);
    expect((await read('\r\n--B\r\n\r\n--B\r\nA: b\r\n\r\n--B--', 'B', size)).map((part) => part.body)).toEqual(['', '']);
    expect(await read('--B--', 'B', size)).toEqual([]);
  }
});

test('what ends early, never begins or grows without end is refused', async () => {
  const refused = async (text: string | Buffer, reason: string, limits?: MultipartLimits): Promise<void> => {
    for (const size of [5, 100_000])
      await expect(read(text, 'B', size, limits)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', reason });
  };
  await refused('--B\r\n\r\nhalf', 'MULTIPART_TRUNCATED');
  await refused('--B\r\n\r\nhalf\r\n--B', 'MULTIPART_TRUNCATED');
  await refused('--B\r\nContent-', 'MULTIPART_TRUNCATED');
  await refused('no boundary at all', 'MULTIPART_NO_BOUNDARY');
  await refused('', 'MULTIPART_NO_BOUNDARY');
  await refused('x'.repeat(100_000), 'MULTIPART_NO_BOUNDARY');
  await refused(`--B\r\nX: ${'y'.repeat(20_000)}`, 'MULTIPART_HEADER_TOO_LONG');
  await refused(`--B\r\n${'X: y\r\n'.repeat(5_000)}`, 'MULTIPART_HEADER_TOO_LONG');
  await refused('--B\r\n\r\na\r\n--B\r\n\r\nb\r\n--B--', 'MULTIPART_TOO_MANY_PARTS', {
    partHeaderBytes: 100,
    preambleBytes: 100,
    parts: 1,
  });
});

test('a part whose body is left unread is passed over', async () => {
  async function* once(): AsyncGenerator<Buffer> {
    yield Buffer.from(`--B\r\n\r\n${'long '.repeat(1000)}`);
    yield Buffer.from('rest\r\n--B\r\nId: 2\r\n\r\nsecond\r\n--B--');
  }
  const ids: (string | undefined)[] = [];
  for await (const part of readMultipart(once(), 'B')) {
    ids.push(part.headers.get('id'));
    for await (const _chunk of part.body) break;
  }
  expect(ids).toEqual([undefined, '2']);
});
