import type { FastifyRequest } from 'fastify';

/** Where the DICOMweb service stands on the listener. */
export const DICOMWEB_PATH = '/dicomweb';

/** Address of the service as the client sees it; its Host header has been checked by the listener. */
export function baseUrlOf(request: FastifyRequest): string {
  return `${request.protocol}://${request.headers.host ?? request.host}${DICOMWEB_PATH}`;
}

/** Address of an instance. */
export function instanceUrl(
  baseUrl: string,
  instance: { readonly studyInstanceUid: string; readonly seriesInstanceUid: string; readonly sopInstanceUid: string },
): string {
  return `${baseUrl}/studies/${instance.studyInstanceUid}/series/${instance.seriesInstanceUid}/instances/${instance.sopInstanceUid}`;
}
