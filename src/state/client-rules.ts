// Which limits a client has: those of its own name, then those of its group, then those of everybody. Each number comes
// from the narrowest rule that has it. Pure.

import type { BucketRule } from "./token-bucket.ts";

/** The limits of a client. */
export interface ClientRule extends BucketRule {
  /** Connections that one client may have open at a time; undefined for no limit. */
  readonly maxConnections?: number | undefined;
}

/** Limits of a client, `alice@dba`, or of each member of a group, `*@dba`. What is undefined comes from a wider rule. */
export interface ClientLimit {
  readonly match: string;
  readonly capacity?: number | undefined;
  readonly fillRate?: number | undefined;
  readonly maxConnections?: number | undefined;
}

/** The limits of all clients. */
export interface ClientRules {
  /** Everybody's. */
  readonly rateLimit: ClientRule;
  /** No two have the same `match`. */
  readonly limits: readonly ClientLimit[];
}

/** Where a client's limits come from, as keys of the configuration. */
export type RuleKeys = Readonly<Record<keyof ClientRule, string>>;

/** The pattern of all members of a client's group. */
export function groupPattern(client: string): string {
  return `*${client.slice(client.indexOf("@"))}`;
}

/** The limits of a client; also those of all members of a group, by its pattern. */
export function ruleOf({ rateLimit, limits }: ClientRules, client: string): ClientRule {
  if (limits.length === 0) return rateLimit;
  const narrow = matching(limits, client);
  const first = <K extends keyof ClientRule>(key: K) =>
    narrow.find(({ limit }) => limit[key] !== undefined)?.limit[key] ?? rateLimit[key];
  return {
    capacity: first("capacity") as number,
    fillRate: first("fillRate") as number,
    maxConnections: first("maxConnections"),
  };
}

/** Where each of the limits that {@link ruleOf} answers comes from. */
export function ruleKeys({ limits }: ClientRules, client: string): RuleKeys {
  const narrow = matching(limits, client);
  const keyOf = (key: keyof ClientRule) => {
    const found = narrow.find(({ limit }) => limit[key] !== undefined);
    return found === undefined ? `rateLimit.${key}` : `limits[${found.place}].${key}`;
  };
  return {
    capacity: keyOf("capacity"),
    fillRate: keyOf("fillRate"),
    maxConnections: keyOf("maxConnections"),
  };
}

/** The rules that match a client, the narrowest first. */
function matching(limits: readonly ClientLimit[], client: string) {
  return [...new Set([client, groupPattern(client)])].flatMap((match) => {
    const place = limits.findIndex((each) => each.match === match);
    return place === -1 ? [] : [{ limit: limits[place] as ClientLimit, place }];
  });
}
