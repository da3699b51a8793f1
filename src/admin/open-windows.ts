// Opens a proxy's windows where there are any; loads their code only then.

import type { Config } from "../config/config.ts";
import type { Subject } from "./subject.ts";
import type { Windows } from "./windows.ts";

/** @throws StartError that says which one cannot be opened and why */
export async function openWindows(config: Config, subject: () => Subject): Promise<Windows | undefined> {
  const { metrics, admin, fleet } = config;
  if (metrics === undefined && admin === undefined && fleet === undefined) return undefined;
  const { Windows } = await import("./windows.ts");
  return Windows.open(subject(), config);
}
