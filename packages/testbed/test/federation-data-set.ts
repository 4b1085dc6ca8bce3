/** One element in explicit VR little endian with a short length (PS3.5 7.1.2). */
export function textElement(group: number, element: number, vr: string, value: string): Buffer {
  return write(group, element, vr, value, ' ');
}

/** A UI element, padded by NUL (PS3.5 6.2). */
export function uidElement(group: number, element: number, value: string): Buffer {
  return write(group, element, 'UI', value, '\0');
}

function write(group: number, element: number, vr: string, value: string, padding: string): Buffer {
  const padded = value.length % 2 === 0 ? value : value + padding;
  const header = Buffer.alloc(8);
  header.writeUInt16LE(group, 0);
  header.writeUInt16LE(element, 2);
  header.write(vr, 4, 'latin1');
  header.writeUInt16LE(padded.length, 6);
  return Buffer.concat([header, Buffer.from(padded, 'latin1')]);
}
