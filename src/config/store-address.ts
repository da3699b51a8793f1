// Addresses of a fleet's store: "redis://user:password@host:6379/0", "rediss://host", "redis+unix:///run/redis.sock". Pure.
// An address may hold a password, so that no error and no log line ever quotes one.

import { formatAddress, parseTarget, type TargetAddress } from "../lib/address.ts";
import type { Kind } from "./kinds.ts";

/** Where a store is and who we are there. */
export interface StoreAddress {
  readonly address: TargetAddress;
  readonly tls: boolean;
  readonly database: number;
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** The address without user and password, for people. */
  readonly shown: string;
}

const DEFAULT_PORT = 6379;

/** The most databases that a store may be configured to have. */
const MAX_DATABASE = 65_535;

/** Reads the address of a store. Undefined where it is none. */
export function parseStore(text: unknown): StoreAddress | undefined {
  const url = typeof text === "string" && !/[\s\0]/.test(text) ? URL.parse(text) : null;
  if (url === null || url.hash !== "") return undefined;
  const [user, password] = [decoded(url.username), decoded(url.password)];
  const local = url.protocol === "redis+unix:";
  if ((url.protocol !== "redis:" && url.protocol !== "rediss:" && !local) || user === undefined)
    return undefined;
  const path = decoded(url.pathname);
  const digits = local ? (url.searchParams.get("db") ?? "0") : path === "" ? "0" : path?.slice(1) || "0";
  const database = /^\d{1,5}$/.test(digits) ? Number(digits) : Infinity;
  const host = url.hostname === "" ? "" : `${url.hostname}:${url.port || DEFAULT_PORT}`;
  const address = parseTarget(local ? `unix:${path}` : host);
  if (address === undefined || password === undefined || database > MAX_DATABASE) return undefined;
  if (local ? url.host !== "" : url.search !== "") return undefined;
  const where = "unix" in address ? address.unix : formatAddress(address);
  const shown = `${url.protocol}//${where}${local ? url.search : `/${database}`}`;
  const given = (part: string) => (part === "" ? undefined : part);
  return {
    address,
    tls: url.protocol === "rediss:",
    database,
    user: given(user),
    password: given(password),
    shown,
  };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** A store's address as it may be printed; what is none is not shown at all. */
export function shownStore(text: unknown): string {
  return parseStore(text)?.shown ?? "(no address)";
}

export const storeAddress: Kind<StoreAddress> = {
  type: "address of a Redis or Valkey",
  typescript: "string",
  schema: {
    type: "string",
    pattern: "^redis(s|\\+unix)?://",
    examples: ["redis://10.0.0.5:6379/0", "rediss://store.example.com", "redis+unix:///run/redis.sock"],
  },
  read(read, value, key) {
    const address = parseStore(value);
    if (value === undefined) read.reject(value, key, "the address of a store");
    else if (address === undefined) {
      read.fault(
        key,
        'is not the address of a store; write it like "redis://10.0.0.5:6379/0", "rediss://store.example.com" or "redis+unix:///run/redis.sock"',
      );
    }
    return address ?? HARMLESS;
  },
};

const HARMLESS: StoreAddress = {
  address: { hostname: "", port: 0 },
  tls: false,
  database: 0,
  user: undefined,
  password: undefined,
  shown: "",
};
