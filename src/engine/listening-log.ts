// The log lines that say where a proxy listens.

import { resolve } from "node:path";
import { formatAddress, type Address } from "../lib/address.ts";
import type { Logger } from "../lib/log.ts";

/** One line for each address. */
export function logListening(
  addresses: readonly Address[],
  { version, configFile }: { readonly version: string; readonly configFile: string | undefined },
  log: Logger,
): void {
  for (const address of addresses) {
    const fields = {
      address: formatAddress(address),
      version,
      config: configFile && resolve(configFile),
      pid: process.pid,
    };
    log.info("listening", fields);
  }
}
