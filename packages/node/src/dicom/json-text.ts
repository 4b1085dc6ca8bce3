import { setImmediate } from 'node:timers/promises';
import type { DicomJson, DicomJsonElement } from './json.ts';

/** Some ms of work. */
const STEP_CHARACTERS = 512 * 1024;

/** A header as JSON text, as `JSON.stringify` writes it; a large one in steps, between which others have their turn. */
export async function jsonTextOf(dataset: DicomJson, jsonBytes: number): Promise<string> {
  if (jsonBytes <= STEP_CHARACTERS) return JSON.stringify(dataset);
  let text = '';
  let steppedAt = 0;
  for (const piece of piecesOf(dataset)) {
    text += piece;
    if (text.length - steppedAt < STEP_CHARACTERS) continue;
    steppedAt = text.length;
    await setImmediate();
  }
  return text;
}

function* piecesOf(dataset: DicomJson): Generator<string> {
  let lead = '{';
  for (const [key, element] of Object.entries(dataset)) {
    yield `${lead}${JSON.stringify(key)}:`;
    if (element.vr === 'SQ' && element.Value !== undefined) yield* sequencePieces(element, element.Value as readonly DicomJson[]);
    else yield JSON.stringify(element);
    lead = ',';
  }
  yield lead === '{' ? '{}' : '}';
}

function* sequencePieces(element: DicomJsonElement, items: readonly DicomJson[]): Generator<string> {
  yield `{"vr":${JSON.stringify(element.vr)},"Value":`;
  let lead = '[';
  for (const item of items) {
    yield lead;
    yield* piecesOf(item);
    lead = ',';
  }
  yield lead === '[' ? '[]}' : ']}';
}
