// `POST /v1/reload`: reads configuration and files anew, as SIGHUP does, and answers when that is done. With `?dryRun` it
// answers what a reload would do, and does nothing.

import { ConfigError } from "../lib/errors.ts";
import { json, Refused, type Answer, type Call } from "./route.ts";

/** @throws Refused with every fault; then nothing has changed */
export async function reload({ subject, query }: Call): Promise<Answer> {
  const dryRun = query.has("dryRun");
  try {
    if (dryRun) return { ...json(await subject.forecast()), detail: "dry run" };
    await subject.reload();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const faults = error instanceof ConfigError ? error.faults : [{ problem: message }];
    throw new Refused(409, "the configuration was refused", { faults });
  }
  const { succeededAt, changed } = subject.reloads;
  return json({ reloadedAt: new Date(succeededAt).toISOString(), ...changed });
}
