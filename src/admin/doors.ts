// The doors for operators: a Unix socket, and HTTPS with client certificates.

import { openHttpsDoor } from "./https-door.ts";
import type { Operations } from "./operations.ts";
import { RecentRefusals } from "./recent.ts";
import { openSocketDoor } from "./socket-door.ts";
import type { Subject, Window } from "./subject.ts";

/** Opens those that are configured. @throws StartError where one cannot be had */
export async function openDoors(subject: Subject, operations: Operations): Promise<Window[]> {
  const { admin } = subject.config;
  const recent = new RecentRefusals();
  const stop = recent.listen(subject.events);
  const open: Window[] = [{ follow() {}, close: stop }];
  const options = { subject, recent, operations, requests: subject.requests };
  try {
    if (admin?.socket !== undefined) open.push(await openSocketDoor(admin.socket, options));
    if (admin?.address !== undefined && subject.adminCredentials !== undefined) {
      open.push(openHttpsDoor(admin.address, subject.adminCredentials, options));
    }
  } catch (error) {
    for (const window of open) window.close();
    throw error;
  }
  return open;
}
