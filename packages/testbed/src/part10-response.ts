import { readPart10Start } from '@meridian/node/dicom/part10';

/**
 * The data set bytes of the one object in a multipart/related answer of WADO-RS (PS3.18 8.7.3).
 * @throws Error when there is not exactly one part.
 */
export function dataSetOfPart10Response(contentType: string, body: Buffer): Buffer {
  const boundary = /boundary="?([^";]+)"?/i.exec(contentType)?.[1];
  if (boundary === undefined) throw new Error(`no boundary in "${contentType}"`);
  const head = body.indexOf('\r\n\r\n');
  const tail = body.lastIndexOf(`\r\n--${boundary}--`);
  if (head < 0 || tail < head) throw new Error('the answer is not one whole part');
  const file = body.subarray(head + 4, tail);
  const start = readPart10Start(file);
  if (start === 'need-more') throw new Error('the part is no whole Part 10 file');
  return file.subarray(start.metaEndOffset);
}
