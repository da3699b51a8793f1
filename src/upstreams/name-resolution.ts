// Checks at the start whether the names of targets resolve. A name that does not is only worth a warning: it may
// resolve in a minute, and each connection looks it up again.

import { isIP } from "node:net";
import type { Config } from "../config/config.ts";
import { quote } from "../lib/errors.ts";

/** One line for each host name among the targets that does not resolve now. */
export async function unresolved({ upstreams }: Config): Promise<string[]> {
  const names = upstreams.flatMap(({ targets }) =>
    targets.map(({ address }) => ("unix" in address || isIP(address.hostname) ? "" : address.hostname)),
  );
  const warnings = [...new Set(names.filter(Boolean))].map(async (name) => {
    try {
      return (await Bun.dns.lookup(name)).length > 0 ? [] : [warning(name, "no address")];
    } catch (error) {
      return [warning(name, (error as { code?: string }).code ?? String(error))];
    }
  });
  return (await Promise.all(warnings)).flat();
}

function warning(name: string, why: string): string {
  return `the target host ${quote(name)} does not resolve: ${why}`;
}
