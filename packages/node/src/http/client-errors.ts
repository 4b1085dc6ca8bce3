import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { problemOf, HttpStatusError, PROBLEM_MEDIA_TYPE } from './problem.ts';

/** Answers bytes that are not a whole HTTP request (too long, too slow, malformed) and cuts the connection. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem = problemOf(clientError(error.code));
  const body = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}\r\nContent-Type: ${PROBLEM_MEDIA_TYPE}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}

function clientError(code: string | undefined): HttpStatusError {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new HttpStatusError(
        431,
        'INVALID_ARGUMENT',
        'HEADERS_TOO_LARGE',
        'The address and headers of the request are longer than this node accepts.',
      );
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new HttpStatusError(408, 'DEADLINE_EXCEEDED', 'HEADERS_TOO_SLOW', 'The headers of the request took too long to arrive.');
    default:
      return new HttpStatusError(400, 'INVALID_ARGUMENT', 'NOT_HTTP', 'What was sent is not an HTTP/1.1 request.');
  }
}
