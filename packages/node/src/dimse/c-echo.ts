import { DIMSE_STATUS } from './dimse-status.ts';
import { answering, type DimseService } from './service.ts';

/** C-ECHO: says that the node is there. @see DICOM PS3.7 9.1.5 */
export const echoService: DimseService = () => answering({ status: DIMSE_STATUS.SUCCESS });
