import { expect, test } from '@jest/globals';
import { MeshError } from './errors.ts';
import {
  CN_RESIDENT_ID_ISSUER,
  maskPersonId,
  nodeIdFrom,
  normalisedPersonId,
  parseNodeId,
  parsePersonId,
  parseStudyInstanceUid,
  peerIdOf,
} from './identifiers.ts';

const reasonOf = (action: () => unknown): string => {
  try {
    action();
  } catch (thrown) {
    return thrown instanceof MeshError ? thrown.reason : String(thrown);
  }
  return 'nothing thrown';
};

test('a UID loses its padding, and anything but digits and dots is refused', () => {
  expect(parseStudyInstanceUid('1.2.840.1\0')).toBe('1.2.840.1');
  expect(parseStudyInstanceUid('1.2.840.12 ')).toBe('1.2.840.12');
  for (const bad of ['', '1.2/3', '1'.repeat(65), "1' or 1=1", '１.2'])
    expect(reasonOf(() => parseStudyInstanceUid(bad))).toBe('UID_INVALID');
});

test('a resident id is taken with its check digit, in the old form too', () => {
  expect(parsePersonId('11010519491231002X')).toEqual({
    type: 'cn-resident-id',
    issuer: CN_RESIDENT_ID_ISSUER,
    value: '11010519491231002X',
  });
  expect(parsePersonId('11010519491231002x').value).toBe('11010519491231002X');
  expect(parsePersonId(' 110105 19491231 002X ').value).toBe('11010519491231002X');
  expect(parsePersonId('１１０１０５１９４９１２３１００２Ｘ').value).toBe('11010519491231002X');
  expect(parsePersonId('440524188001010014').value).toBe('440524188001010014');
  expect(parsePersonId('110105491231002').value).toBe('11010519491231002X');
  expect(parsePersonId(`cn-resident-id:${CN_RESIDENT_ID_ISSUER}:11010519491231002X`)).toEqual(parsePersonId('11010519491231002X'));
});

test('each wrong character of a resident id is caught', () => {
  const good = '11010519491231002X';
  for (let place = 0; place < 18; place += 1) {
    const wrong = good.slice(0, place) + (good[place] === '7' ? '8' : '7') + good.slice(place + 1);
    expect(['PERSON_ID_CHECK_DIGIT', 'PERSON_ID_UNKNOWN_FORM']).toContain(reasonOf(() => parsePersonId(wrong)));
  }
  expect(reasonOf(() => parsePersonId('110105194912310021'))).toBe('PERSON_ID_CHECK_DIGIT');
  expect(reasonOf(() => parsePersonId('11010519491331002X'))).toBe('PERSON_ID_UNKNOWN_FORM');
  for (const bad of [
    '',
    'hello',
    'mrn::1',
    'card:a:b',
    'mrn:a|b:1',
    'cn-resident-id:elsewhere:11010519491231002X',
    `mrn:A:${'9'.repeat(65)}`,
  ]) {
    expect(reasonOf(() => parsePersonId(bad))).toBe('PERSON_ID_UNKNOWN_FORM');
  }
});

test('ids of two issuers stay two, and a mask hides the middle', () => {
  const a = parsePersonId('mrn:Hospital A:p1');
  expect(normalisedPersonId(a)).toBe('MRN|HOSPITAL A|P1');
  expect(normalisedPersonId(parsePersonId('mrn:Hospital B:p1'))).not.toBe(normalisedPersonId(a));
  expect(maskPersonId(parsePersonId('11010519491231002X'))).toBe('110105********002X');
  expect(maskPersonId(parsePersonId('passport:CHN:E12345678'))).toBe('*******78');
  expect(maskPersonId(a)).toBe('**');
});

test('node ids and PeerIds have their form', () => {
  expect(nodeIdFrom(Buffer.alloc(10, 0xff))).toBe('n-7777777777777777');
  expect(parseNodeId('n-abcdefghijklmnop')).toBe('n-abcdefghijklmnop');
  expect(reasonOf(() => parseNodeId('n-1'))).toBe('NODE_ID_INVALID');
  // A pair of libp2p's peer-id specification.
  expect(peerIdOf(Buffer.from('1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e', 'hex'))).toBe(
    '12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq',
  );
});
