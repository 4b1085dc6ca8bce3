/** Counts so far. Bytes are file bytes read. */
export interface ImportProgress {
  readonly files: number;
  readonly bytes: number;
  readonly stored: number;
  readonly duplicates: number;
  readonly quarantined: number;
  readonly refused: number;
  readonly skipped: number;
}

/** What came of a folder. Paths are relative to it; reasons are stable, messages are sentences without patient data. */
export interface ImportResult extends Omit<ImportProgress, 'refused' | 'skipped'> {
  readonly refused: readonly { readonly file: string; readonly reason: string; readonly message: string }[];
  readonly refusedTotal: number;
  /** Why files were passed over, with counts: NOT_DICOM, DICOMDIR, SYMBOLIC-LINK… */
  readonly skipped: Readonly<Record<string, number>>;
  /** Of patient ids that name no issuer. */
  readonly assigningAuthority: string;
  readonly cancelled: boolean;
  readonly elapsedMs: number;
}
