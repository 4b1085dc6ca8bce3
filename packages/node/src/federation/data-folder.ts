import { chmod, mkdir, stat } from 'node:fs/promises';

/**
 * Makes a data folder, and shuts it to other accounts where it is this account's own: pictures, consents and the list of
 * transfers lie in it, each in a file whose mode its library chose.
 */
export async function makeDataFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  // A folder of another account is as its administrator made it. Windows has no such modes, and no owner's number.
  if ((await stat(folder)).uid === process.getuid?.()) await chmod(folder, 0o700);
}
