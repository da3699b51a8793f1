// The port for monitoring: plain HTTP.

import type { Subject, Window } from "./subject.ts";

/** Opens the port. @throws StartError where it cannot be had */
export async function openMetrics(_subject: Subject): Promise<Window> {
  throw new Error("to be built in the next commit");
}
