// What is said first on a connection to the store: who we are, which database, and whether the store is fit for a fleet.

import type { StoreConnection } from "./store.ts";
import { StoreFault } from "./resp.ts";

/** The store can never do what a fleet needs, or not for us. The message says why, in one line. */
export class Unfit extends Error {
  override name = "Unfit";
}

/** Who we are, and which database. */
export interface Introduction {
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
}

const LEAST_VERSION = 6;

/**
 * @returns a warning, if there is one
 * @throws Unfit, StoreFault, StoreGone
 */
export async function greet(
  store: Pick<StoreConnection, "send">,
  { user, password, database }: Introduction,
): Promise<string | undefined> {
  if (password !== undefined || user !== undefined) {
    const names = user === undefined ? [] : [user];
    await store.send(["AUTH", ...names, password ?? ""]).catch((error: unknown) => {
      throw error instanceof StoreFault
        ? new Unfit(`the store refused the password: ${error.message}`)
        : error;
    });
  }
  // A user may not be allowed to ask; then the store is taken as it is.
  const info = await store.send(["INFO"]).catch((error: unknown) => {
    if (error instanceof StoreFault && error.message.startsWith("NOPERM")) return "";
    throw error instanceof StoreFault && error.message.startsWith("NOAUTH")
      ? new Unfit("the store wants a password")
      : error;
  });
  const warning = judgeInfo(typeof info === "string" ? info : "");
  if (database > 0) await store.send(["SELECT", database]);
  return warning;
}

/**
 * Reads what the store says of itself.
 * @throws Unfit
 */
export function judgeInfo(info: string): string | undefined {
  const fields = new Map(
    info.split(/\r?\n/).flatMap((line): [string, string][] => {
      const at = line.indexOf(":");
      return at === -1 ? [] : [[line.slice(0, at), line.slice(at + 1)]];
    }),
  );
  const version = fields.get("redis_version");
  const isValkey = fields.has("valkey_version") || fields.get("server_name") === "valkey";
  if (version !== undefined && !isValkey && Number.parseInt(version) < LEAST_VERSION) {
    throw new Unfit(
      `the store is Redis ${version.slice(0, 20)}; Redis ${LEAST_VERSION} or later is needed, or Valkey`,
    );
  }
  if (fields.get("cluster_enabled") === "1")
    throw new Unfit("the store is a Redis Cluster, which is not supported");
  if (fields.get("redis_mode") === "sentinel") {
    throw new Unfit("the store is a Redis Sentinel, which is not supported; name the Redis itself");
  }
  if (fields.get("role") === "slave")
    throw new Unfit("the store is a replica, which takes no writes; name its primary");
  const policy = fields.get("maxmemory_policy");
  if (policy === undefined || policy === "noeviction") return undefined;
  return `the fleet's store may drop counts when its memory is full: its maxmemory-policy is ${policy.slice(0, 40)}; set noeviction`;
}
