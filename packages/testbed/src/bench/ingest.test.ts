import { expect, test } from '@jest/globals';
import { checkAnswers } from './ingest.ts';

const answers = (...statuses: string[]): string =>
  statuses.map((status) => `I: Sending C-STORE Request (MsgID 1, CT)\nI: Received C-STORE Response (${status})\n`).join('');

test('a refusal, or an answer that is missing, is no speed', () => {
  expect(() => checkAnswers('NODE', answers('Success', 'Success'), 2)).not.toThrow();
  expect(() => checkAnswers('NODE', answers('Success', 'Refused: OutOfResources'), 2)).toThrow('NODE answered Refused: OutOfResources');
  expect(() => checkAnswers('NODE', answers('Success'), 2)).toThrow('NODE answered Success 1 times for 2 objects');
  expect(() => checkAnswers('NODE', '', 2)).toThrow('NODE answered Success 0 times');
});
