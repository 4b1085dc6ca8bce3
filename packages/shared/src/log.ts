import pino, { type Logger, type DestinationStream } from 'pino';

export type { Logger } from 'pino';

/** Keys that may never reach a log line, wherever they stand in the logged object. */
const PATIENT_KEYS = ['patientName', 'patientId', 'patientBirthDate', 'personId', 'grant', 'token', 'joinCode', 'secret'];

/**
 * A logger that writes JSON lines with event names and fields, never names, birth dates, pixels or grants.
 * @param destination where lines go; standard error unless given.
 */
export function openLog(options: { level?: string; part: string; destination?: DestinationStream }): Logger {
  const paths = PATIENT_KEYS.flatMap((key) => [key, `*.${key}`]);
  return pino(
    {
      level: options.level ?? 'info',
      base: { part: options.part },
      redact: { paths, censor: '[redacted]' },
      serializers: { err: pino.stdSerializers.err },
    },
    options.destination ?? pino.destination({ dest: 2, sync: true }),
  );
}

/** A logger that writes nothing: for tests. */
export const silentLog: Logger = pino({ level: 'silent' });
