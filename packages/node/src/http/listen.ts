import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MeshError } from '@meridian/shared/errors';

/**
 * Binds a server.
 * @returns the port, also where 0 was asked for.
 * @throws MeshError FAILED_PRECONDITION / PORT_IN_USE | PORT_NOT_PERMITTED | ADDRESS_NOT_AVAILABLE
 */
export function listen(server: Server, at: { readonly host: string; readonly port: number; readonly setting: string }): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => reject(listenError(error, at));
    server.once('error', onError);
    server.listen({ host: at.host.replace(/^\[|\]$/g, ''), port: at.port }, () => {
      server.off('error', onError);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function listenError(
  error: NodeJS.ErrnoException,
  at: { readonly host: string; readonly port: number; readonly setting: string },
): MeshError {
  const details = { port: String(at.port), setting: at.setting };
  switch (error.code) {
    case 'EADDRINUSE':
      return new MeshError(
        'FAILED_PRECONDITION',
        'PORT_IN_USE',
        `Port ${at.port} on ${at.host} is used by another program, perhaps by a second copy of this one. Stop it, or set ${at.setting} to another port.`,
        { cause: error, details },
      );
    case 'EACCES':
      return new MeshError(
        'FAILED_PRECONDITION',
        'PORT_NOT_PERMITTED',
        `This user may not listen on port ${at.port}. Set ${at.setting} to a port above 1023.`,
        { cause: error, details },
      );
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new MeshError(
        'FAILED_PRECONDITION',
        'ADDRESS_NOT_AVAILABLE',
        `This machine has no address ${at.host} to listen on. Check the host that stands beside ${at.setting}.`,
        { cause: error, details },
      );
    default:
      return new MeshError('INTERNAL', 'LISTEN_FAILED', `Listening on ${at.host} port ${at.port} failed.`, { cause: error, details });
  }
}
