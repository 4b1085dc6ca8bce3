/** What each route of this door lets a caller do, named in the route itself. @see ../http/policies.ts */
export const PUBLIC = { policy: 'public' } as const;
/** Sees whose images are where. */
export const CLINICAL_READ = { policy: 'clinical-read' } as const;
/** Brings images of other hospitals here. */
export const CLINICAL_WRITE = { policy: 'clinical-write' } as const;
/** Records and withdraws consent. */
export const CONSENT = { policy: 'consent' } as const;
/** Runs the node; sees no images. */
export const OPERATOR = { policy: 'operator' } as const;
