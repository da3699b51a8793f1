// What `--version` prints: for people the version alone, with `--json` what the binary was made of.

import { version } from "../../package.json";

/** Replaced by build.ts; not there where the sources are run as they are. */
declare const BUILD_COMMIT: string | null;

export function versionText(json: boolean): string {
  if (!json) return version;
  const commit = typeof BUILD_COMMIT === "undefined" ? null : BUILD_COMMIT;
  return JSON.stringify({ version, commit, runtime: `bun ${Bun.version}` });
}
