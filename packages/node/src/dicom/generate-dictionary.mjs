/**
 * Writes dictionary-entries.ts from the dictionary of dcmjs (PS3.6), one element a line:
 * `TTTTTTTT VR VM Keyword`. Run it when dcmjs is updated: `node packages/node/src/dicom/generate-dictionary.mjs`.
 */
import { writeFileSync } from 'node:fs';
import dictionary from 'dcmjs/dictionary';

/** dcmjs's marks for a VR that depends on the data set, in the words of PS3.6. */
const DEPENDENT_VR = { xs: 'US|SS', ox: 'OB|OW', lt: 'US|OW', up: 'UL', na: 'NONE' };
const HEADER = '// Made by generate-dictionary.mjs from the dictionary of dcmjs (MIT); do not edit.\n';

const seen = new Map();
for (const entry of Object.values(dictionary)) {
  if (
    !entry.tag ||
    entry.version === 'PrivateTag' ||
    entry.version === 'PRIVATE' ||
    entry.version === 'ILLEGAL' ||
    entry.version === 'GENERIC'
  )
    continue;
  // Repeating groups (curves 50xx, overlays 60xx) are kept under their first group; the look-up folds the others onto it.
  const match = /^\(([0-9A-F]{4})(?:-[0-9A-F]{4})?,([0-9A-F]{4})(?:-[0-9A-F]{4})?\)$/.exec(entry.tag);
  if (!match) continue;
  const tag = `${match[1]}${match[2]}`;
  const keyword = entry.name.replace(/^RETIRED_/, '');
  if (!/^[A-Za-z0-9_]+$/.test(keyword) || seen.has(tag)) continue;
  seen.set(tag, `${tag} ${DEPENDENT_VR[entry.vr] ?? entry.vr} ${entry.vm ?? '1'} ${keyword}`);
}
const lines = [...seen].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, line]) => line);
writeFileSync(
  new URL('dictionary-entries.ts', import.meta.url),
  `${HEADER}/** The data elements of PS3.6, one a line: tag, VR (alternatives joined by a bar), VM, keyword. */\nexport const DICTIONARY_ENTRIES = \`\n${lines.join('\n')}\n\`;\n`,
);
