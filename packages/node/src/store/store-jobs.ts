// Jobs of the archive's writer thread; each runs inside one transaction.
export { commitInstances } from './commit-instances.ts';
export {
  beginFetch,
  completeFetch,
  ensurePatient,
  linkStudy,
  lockCopies,
  lockExpiredCopies,
  lockRecalled,
  restCopy,
} from './fetched-jobs.ts';
export { advanceStudy, markAdvertised, markAllAdvertised } from './study-states.ts';
