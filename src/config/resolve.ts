// Turns a written configuration into the one that the proxy runs on. schema.ts declares the keys; this file adds what
// depends on several of them. Pure: it opens no file.

import { isAbsolute, resolve as resolvePath } from "node:path";
import { restOf } from "../auth/server-name.ts";
import { quote, type Fault } from "../lib/errors.ts";
import { DECIDED_REASONS, REFUSAL_REASONS } from "../lib/reasons.ts";
import { suggest } from "../lib/suggest.ts";
import { MAX_LIMITS } from "../state/rule-book.ts";
import type { Config, PolicyTest, ProxyConfig } from "./config.ts";
import { listenerFor } from "./listener-for.ts";
import { Reader } from "./reader.ts";
import { MAX_WORKERS, SCHEMA } from "./schema.ts";
import { HEALTH_CHECK } from "./upstream-schema.ts";

/** What the resolver must know of its surroundings. */
export interface Surroundings {
  /** The absolute folder where relative paths start. */
  readonly directory: string;
  /** CPU cores, for `workers = "auto"`. */
  readonly cores: number;
  /**
   * Whether the input was read from a configuration file. Then a number is not a duration, and the demonstration's
   * certificates and upstreams are not built in.
   */
  readonly fromFile?: boolean;
}

/**
 * Turns a written configuration into the one that the proxy runs on.
 * @param input a `ProxyConfig` from any source: every part of it is checked
 * @param faults collects what is wrong, in the order of the keys; use the result only if it stays empty. A path at
 *   fault becomes ""
 */
export function resolveConfig(
  input: unknown,
  { directory, cores, fromFile = false }: Surroundings,
  faults: Fault[],
): Config {
  const absolute = (path: string) => (isAbsolute(path) ? path : resolvePath(directory, path));
  const read = new Reader(faults, absolute, fromFile);
  const { listener, listeners } = (input ?? {}) as { listener?: unknown; listeners?: unknown };
  if (listener !== undefined && listeners !== undefined)
    read.fault("listeners", "is given beside listener, which it replaces; give only one of them");
  const values = SCHEMA.read(read, input, "", listeners === undefined ? [] : ["listener"]);
  const { upstreams, rateLimit, limits = [], workers, tests = [] } = values;
  const { listener: only, listeners: several, ...others } = values;
  const config = {
    ...others,
    workers: workers === "auto" ? Math.min(cores, MAX_WORKERS) : workers,
    listeners: several?.map((each, i) => ({ key: `listeners[${i}]`, ...each })) ?? [
      { key: "listener", ...only },
    ],
    upstreams: upstreams.map((each) => ({
      ...each,
      authorizedGroups: each.authorizedGroups ?? [],
      authorizedClients: each.authorizedClients ?? [],
      fall: each.healthCheck?.fall ?? Number(HEALTH_CHECK.keys.fall.builtIn),
    })),
    rateLimit: { ...rateLimit, capacity: tokens(rateLimit.capacity) },
    limits: limits.map(({ capacity, ...each }) => ({
      ...each,
      capacity: capacity === undefined ? undefined : tokens(capacity),
    })),
  };
  if (limits.length > MAX_LIMITS) {
    read.fault("limits", `has ${limits.length} entries; at most ${MAX_LIMITS} are possible`);
  }
  const checked = tests.map((each, i) => policyTest(read, each, `tests[${i}]`, config));
  const { max = 0 } = config.handshakes;
  if (config.maxConnections !== undefined && max > config.maxConnections) {
    read.fault("handshakes.max", `${max} is more than maxConnections, which is ${config.maxConnections}`);
  }
  return deepFreeze({ ...config, tests: checked, fallback: routing(read, config) });
}

function tokens(capacity: number | "unlimited"): number {
  return capacity === "unlimited" ? Infinity : capacity;
}

/** Whether a configuration without a file uses one of the demonstration's files for a listener. */
export function usesDemonstration({ listener = {}, listeners }: ProxyConfig): boolean {
  const { ca, certificate, privateKey } = listener;
  return listeners === undefined && [ca, certificate, privateKey].includes(undefined);
}

/** Checks that every pin names an upstream and that no server name belongs to two. Returns the fallback. */
function routing(read: Reader, config: Pick<Config, "upstreams" | "listeners">): string | undefined {
  const { upstreams, listeners } = config;
  const names = upstreams.map(({ name }) => name);
  const served = upstreams.flatMap(({ serverNames = [] }, i) =>
    serverNames.map((name, j) => ({ name, key: `upstreams[${i}].serverNames[${j}]` })),
  );
  for (const [i, { name, key }] of served.entries()) {
    const first = served.findIndex((other) => other.name === name);
    if (first !== i && name !== "") {
      read.fault(
        key,
        `${quote(name)} is taken by ${served[first]?.key}; a server name belongs to one upstream`,
      );
    }
  }
  for (const { upstream: pin, key } of listeners) {
    if (pin !== undefined && pin !== "" && !names.includes(pin)) {
      read.fault(
        `${key}.upstream`,
        `${quote(pin)} is no upstream's name; there are ${names.map(quote).join(", ")}`,
      );
    }
  }
  const rest = restOf(upstreams, new Set(listeners.map(({ upstream }) => upstream ?? "")));
  if (typeof rest !== "object") return rest;
  read.fault(
    "upstreams",
    `${rest.map(quote).join(" and ")} have no serverNames; only one upstream can be the fallback, unless a listener is pinned to each of the others`,
  );
  return undefined;
}

type WrittenTest = Omit<PolicyTest, "listener"> & { readonly listener: string | undefined };

/** Checks that a test can pass at all: that its listener exists, and that what it expects can be the answer. */
function policyTest(
  read: Reader,
  { listener, ...test }: WrittenTest,
  key: string,
  config: Pick<Config, "listeners" | "upstreams">,
): PolicyTest {
  const place = listenerFor(config, listener);
  if (typeof place === "object" && listener !== "") read.fault(`${key}.listener`, place.problem);
  const { expect } = test;
  const names = config.upstreams.map(({ name }) => name);
  if (expect !== "" && !names.includes(expect) && !isOneOf(DECIDED_REASONS, expect)) {
    read.fault(`${key}.expect`, `${quote(expect)} ${expectHint(expect, names)}`);
  }
  return { ...test, listener: typeof place === "object" ? 0 : place };
}

function expectHint(expect: string, names: readonly string[]): string {
  if (Object.hasOwn(REFUSAL_REASONS, expect)) {
    return `depends on more than the configuration; a test can expect ${DECIDED_REASONS.join(", ")}`;
  }
  const near = suggest(expect, [...names, ...DECIDED_REASONS]);
  const hint =
    near === undefined
      ? `upstreams are ${names.map(quote).join(", ")}; reasons are ${DECIDED_REASONS.join(", ")}`
      : `did you mean ${quote(near)}?`;
  return `is neither an upstream's name nor a reason of refusal; ${hint}`;
}

function isOneOf(all: readonly string[], text: string): boolean {
  return all.includes(text);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
