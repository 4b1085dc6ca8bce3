import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, test } from '@jest/globals';
import { MeshError } from '@meridian/shared/errors';
import { silentLog } from '@meridian/shared/log';
import { openHttp, type Door, type HttpOptions, type HttpServer } from './http-server.ts';

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

function ask(
  http: HttpServer,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: '127.0.0.1', port: http.port, path, method: options.method ?? 'GET', headers: options.headers ?? {} },
      (response) => {
        let body = '';
        response
          .setEncoding('utf8')
          .on('data', (text: string) => (body += text))
          .on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }))
          .on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(options.body);
  });
}

const problem = (answer: Answer): { reason: string; detail: string; status: number; type: string } => {
  expect(answer.headers['content-type']).toContain('application/problem+json');
  return JSON.parse(answer.body) as { reason: string; detail: string; status: number; type: string };
};

const door: Door = async (app) => {
  app.get('/ok', { config: { policy: 'public' } }, async () => ({ ok: true }));
  app.get('/page', { config: { policy: 'public' } }, async (_request, reply) => reply.type('text/html').send('<p>page</p>'));
  app.get('/kept', { config: { policy: 'clinical-read' } }, async (_request, reply) =>
    reply.header('cache-control', 'private, no-cache').send('x'),
  );
  app.get('/denied', { config: { policy: 'clinical-read' } }, async () => {
    throw new MeshError('PERMISSION_DENIED', 'COPY_LOCKED', 'Consent was withdrawn.', { details: { since: 'today' } });
  });
  app.get('/broken', { config: { policy: 'public' } }, async () => {
    throw new Error('secret detail');
  });
  app.get('/endless', { config: { policy: 'public' } }, async (_request, reply) => {
    const stream = new PassThrough();
    stream.write('started\n');
    return reply.type('application/x-ndjson').send(stream);
  });
  app.post('/change', { config: { policy: 'operator' } }, async (request) => ({ got: request.body }));
};

async function open(options: Partial<HttpOptions> = {}, doors: Door[] = [door]): Promise<HttpServer> {
  const http = await openHttp({ host: '127.0.0.1', port: 0, log: silentLog, ...options });
  for (const each of doors) await http.mount(each);
  await http.ready();
  return http;
}

test('answers carry the security headers, and every error is a problem document with a reason', async () => {
  const http = await open();
  try {
    const ok = await ask(http, '/ok');
    expect(ok.status).toBe(200);
    expect(ok.headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
    });
    expect((await ask(http, '/page')).headers['content-security-policy']).toContain("frame-ancestors 'none'");
    expect((await ask(http, '/kept')).headers['cache-control']).toBe('private, no-cache');

    const denied = await ask(http, '/denied');
    expect(denied.status).toBe(403);
    expect(problem(denied)).toEqual({
      type: 'urn:meridian:reason:COPY_LOCKED',
      title: 'Forbidden',
      status: 403,
      detail: 'Consent was withdrawn.',
      reason: 'COPY_LOCKED',
      details: { since: 'today' },
    });
    expect(denied.headers['x-content-type-options']).toBe('nosniff');

    const broken = await ask(http, '/broken');
    expect([broken.status, problem(broken).reason]).toEqual([500, 'UNEXPECTED']);
    expect(broken.body).not.toContain('secret');
    expect(problem(await ask(http, '/nothing')).reason).toBe('ADDRESS_UNKNOWN');
    expect(problem(await ask(http, '/%E0%A4%A')).reason).toBe('URL_INVALID');
    const json = { 'content-type': 'application/json' };
    expect(problem(await ask(http, '/change', { method: 'POST', headers: json, body: '{' })).reason).toBe('BODY_NOT_JSON');
    const large = await ask(http, '/change', { method: 'POST', headers: { ...json, 'content-length': String(2 * 1024 * 1024) } });
    expect([large.status, problem(large).reason]).toEqual([413, 'BODY_TOO_LARGE']);
    const type = await ask(http, '/change', { method: 'POST', headers: { 'content-type': 'text/csv' }, body: 'a' });
    expect([type.status, problem(type).reason]).toEqual([415, 'MEDIA_TYPE_UNSUPPORTED']);
  } finally {
    await http.close();
  }
});

test('a foreign Host and a foreign Origin are refused; our own pages and plain programs pass', async () => {
  const http = await open({ allowedHosts: ['node-a.hospital.example'] });
  try {
    for (const host of ['evil.example', `evil.example:${http.port}`, '127.0.0.1.evil.example', 'localhost@evil.example']) {
      const answer = await ask(http, '/ok', { headers: { host } });
      expect([host, answer.status, problem(answer).reason]).toEqual([host, 403, 'HOST_NOT_ALLOWED']);
    }
    for (const host of [`127.0.0.1:${http.port}`, 'LOCALHOST', `[::1]:${http.port}`, 'node-a.hospital.example']) {
      expect((await ask(http, '/ok', { headers: { host } })).status).toBe(200);
    }
    const change = (headers: Record<string, string>): Promise<Answer> =>
      ask(http, '/change', { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: '{}' });
    expect((await change({})).status).toBe(200);
    expect((await change({ origin: http.address })).status).toBe(200);
    for (const headers of [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: `http://127.0.0.1:${http.port + 1}` },
      { 'sec-fetch-site': 'cross-site' },
    ]) {
      expect(problem(await change(headers)).reason).toBe('ORIGIN_NOT_ALLOWED');
    }
  } finally {
    await http.close();
  }
});

test('a route without a policy fails at mount, and the policy reaches whoever decides access', async () => {
  const http = await openHttp({
    host: '127.0.0.1',
    port: 0,
    log: silentLog,
    authorise: async (_request, policy) => {
      if (policy === 'operator') throw new MeshError('UNAUTHENTICATED', 'SIGN_IN', 'Sign in first.');
    },
  });
  try {
    const bare: Door = async (app) => void app.get('/bare', async () => 'x');
    await expect(http.mount(bare)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'ROUTE_WITHOUT_POLICY' });
  } finally {
    await http.close();
  }
  const guarded = await openHttp({
    host: '127.0.0.1',
    port: 0,
    log: silentLog,
    authorise: async (_request, policy) => {
      if (policy === 'operator') throw new MeshError('UNAUTHENTICATED', 'SIGN_IN', 'Sign in first.');
    },
  });
  try {
    await guarded.mount(door);
    await guarded.mount(async (app) => void app.get('/static', async () => 'x'), { policy: 'public' });
    await guarded.ready();
    expect((await ask(guarded, '/ok')).status).toBe(200);
    expect((await ask(guarded, '/static')).status).toBe(200);
    expect((await ask(guarded, '/change', { method: 'POST' })).status).toBe(401);
    await expect(guarded.mount(door)).rejects.toMatchObject({ reason: 'HTTP_ALREADY_OPEN' });
  } finally {
    await guarded.close();
  }
});

test('a taken port, a foreign address and an open network are refused in a plain sentence', async () => {
  const http = await open();
  try {
    await expect(openHttp({ host: '127.0.0.1', port: http.port, log: silentLog, portSetting: 'MERIDIAN_HTTP_PORT' })).rejects.toMatchObject(
      {
        code: 'FAILED_PRECONDITION',
        reason: 'PORT_IN_USE',
        message: expect.stringMatching(new RegExp(`Port ${http.port} .*MERIDIAN_HTTP_PORT`)),
      },
    );
    await expect(openHttp({ host: '0.0.0.0', port: 0, log: silentLog })).rejects.toMatchObject({ reason: 'TLS_AND_CREDENTIALS_REQUIRED' });
  } finally {
    await http.close();
  }
});

test('requests that come while the node starts wait, then are answered', async () => {
  const http = await openHttp({ host: '127.0.0.1', port: 0, log: silentLog, limits: { startWaitMs: 300 } });
  try {
    const early = await ask(http, '/ok');
    expect([early.status, problem(early).reason]).toEqual([503, 'STARTING']);
    const waiting = ask(http, '/ok');
    await http.mount(door);
    await http.ready();
    expect((await waiting).status).toBe(200);
  } finally {
    await http.close();
  }
});

test('slow, endless and malformed heads are cut with an answer; a slow body is cut', async () => {
  const http = await open({ limits: { headersMs: 300, checkIntervalMs: 50, bodyTimeMs: 300, idleMs: 1_000 } });
  const send = (text: string, every?: { text: string; ms: number }): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket: Socket = connect(http.port, '127.0.0.1', () => socket.write(text));
      let got = '';
      const timer = every === undefined ? undefined : setInterval(() => socket.write(every.text), every.ms);
      socket
        .setEncoding('latin1')
        .on('data', (part: string) => (got += part))
        .on('close', () => {
          clearInterval(timer);
          resolve(got);
        })
        .on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' || error.code === 'EPIPE' ? undefined : reject(error)));
    });
  try {
    expect(await send('GET /ok HTTP/1.1\r\nHost: 127.0.0.1\r\n', { text: 'X-A: 1\r\n', ms: 100 })).toMatch(
      /^HTTP\/1\.1 408 .*HEADERS_TOO_SLOW/s,
    );
    expect(await send(`GET /ok?${'a'.repeat(60_000)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 .*HEADERS_TOO_LARGE/s);
    expect(await send('\x16\x03\x01\x02\x00 hello\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 .*NOT_HTTP/s);
    expect(
      await send('POST /change HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n', {
        text: ' ',
        ms: 50,
      }),
    ).not.toContain('200 OK');
    expect(await send('')).toMatch(/^HTTP\/1\.1 408 /); // Silent from the start.
    expect((await ask(http, '/ok')).status).toBe(200);
  } finally {
    await http.close();
  }
});

test('closing ends open streams within the grace', async () => {
  const http = await open({ limits: { closeGraceMs: 100 } });
  const ended = new Promise<string>((resolve) => {
    httpRequest({ host: '127.0.0.1', port: http.port, path: '/endless' }, (response) => {
      response.once('data', () => void http.close());
      response
        .on('error', () => resolve('cut'))
        .on('end', () => resolve('ended'))
        .resume();
    })
      .on('error', () => resolve('cut'))
      .end();
  });
  expect(await ended).toBe('cut');
  await http.close();
  expect(http.closing.aborted).toBe(true);
  await expect(ask(http, '/ok')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});
