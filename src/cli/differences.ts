// Lists the settings that differ from the built-in ones, as written. Pure.

import { FLEET_BUILT_IN, HEALTH_CHECK_BUILT_IN } from "../config/built-in.ts";
import { BUILT_IN, type ProxyConfig } from "../config/config.ts";
import { shownStore } from "../config/store-address.ts";
import { isZeroDuration, parseDuration } from "../lib/duration.ts";
import { quote } from "../lib/errors.ts";

/** A key with its value and its built-in value; undefined if it has none. */
export interface Difference {
  readonly key: string;
  readonly value: string;
  readonly builtIn: string | undefined;
}

/** Keys of a listener or an upstream that the summary shows in separate rows. */
const SHOWN = new Set(
  ["address", "ca", "certificate", "privateKey", "certificates", "alpn", "crl", "upstream", "identity"]
    .map((name) => `listener.${name}`)
    .concat(
      ["name", "targets", "authorizedGroups", "authorizedClients", "anyGroup", "serverNames"].map(
        (name) => `upstreams.${name}`,
      ),
    )
    .concat("tests", "limits"),
);

/** Keys whose values are addresses of stores. */
const STORES = new Set(["fleet.store", "fleet.store.url"]);

/** The built-in values; those of list entries are under the name of the list. */
const KNOWN: Readonly<Record<string, unknown>> = {
  ...BUILT_IN,
  fleet: FLEET_BUILT_IN,
  upstreams: { healthCheck: HEALTH_CHECK_BUILT_IN, slowStart: 0 },
};

/** @param written a configuration without faults */
export function differences(written: ProxyConfig): Difference[] {
  return leaves(written, "", "", KNOWN);
}

/** @param kind the key without the places in lists, and with `listener` for an entry of `listeners` */
function leaves(value: unknown, key: string, kind: string, known: unknown): Difference[] {
  if (value === undefined || SHOWN.has(kind)) return [];
  if (Array.isArray(value) && (kind === "listeners" || kind === "upstreams")) {
    const [single, builtIn] = kind === "listeners" ? ["listener", BUILT_IN.listener] : [kind, known];
    return value.flatMap((each: unknown, i) => leaves(each, `${key}[${i}]`, single, builtIn));
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([name, each]) => {
      const path = key === "" ? name : `${key}.${name}`;
      return leaves(each, path, kind === "" ? name : `${kind}.${name}`, memberOf(known, name));
    });
  }
  if (same(value, known)) return [];
  // It may hold a password.
  if (STORES.has(kind)) return [{ key, value: quote(shownStore(value)), builtIn: undefined }];
  return [{ key, value: shown(value), builtIn: known === undefined ? undefined : shown(known) }];
}

function memberOf(known: unknown, name: string): unknown {
  const isTable = typeof known === "object" && known !== null && !Array.isArray(known);
  return isTable && Object.hasOwn(known, name) ? (known as Record<string, unknown>)[name] : undefined;
}

/** "60s" and "1m" are the same, and so are "0s" and 0. */
function same(a: unknown, b: unknown): boolean {
  const [left, right] = [a, b].map((each) => (isZeroDuration(each) ? 0 : parseDuration(each)));
  return Bun.deepEquals(a, b) || (left !== undefined && left === right);
}

function shown(value: unknown): string {
  if (!Array.isArray(value)) return typeof value === "string" ? quote(value) : String(value);
  return value.length === 0 ? "none" : value.map(shown).join(", ");
}
