// What the fleet is configured with, from a configuration that is loaded.

import type { LoadedConfig } from "../config/load.ts";
import type { Fleet } from "./fleet.ts";

/** The arguments of {@link Fleet.configure}; the first is undefined where there is no fleet. */
export function fleetRun({ config, credentials }: LoadedConfig): Parameters<Fleet["configure"]> {
  const { fleet, rateLimit, limits } = config;
  const run = fleet && credentials.fleet && { config: fleet, credentials: credentials.fleet };
  return [run, rateLimit, limits];
}
