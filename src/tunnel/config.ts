// Reads and checks the configuration of tunnels, from flags or from a file. Pure: nothing here opens a file or a port.

import { isAbsolute, resolve } from "node:path";
import { Reader } from "../config/reader.ts";
import {
  formatAddress,
  parseListenAddress,
  parseTarget,
  type Address,
  type TargetAddress,
} from "../lib/address.ts";
import { quote, type Fault } from "../lib/errors.ts";
import { LOG_LEVELS, type LogLevel } from "../lib/log.ts";
import { rangeList } from "../lib/source.ts";

/** One tunnel. */
export interface TunnelConfig {
  /** Where it is in the configuration, such as `tunnels[0]`. */
  readonly key: string;
  /** The proxy. */
  readonly server: Address;
  /** The name that is asked for (SNI), and that the proxy's certificate has to hold. */
  readonly serverName: string;
  /** Where programs connect to; undefined for standard input and output. */
  readonly listen: TargetAddress | undefined;
  /** Paths of PEM files, absolute. */
  readonly ca: string;
  readonly certificate: string;
  readonly privateKey: string;
}

export interface ConnectConfig {
  readonly tunnels: readonly TunnelConfig[];
  readonly logLevel: LogLevel | undefined;
  /** What is allowed but worth a warning, one line each. */
  readonly warnings: readonly string[];
}

const FILES = ["ca", "certificate", "privateKey"] as const;
const TUNNEL_KEYS = ["server", "serverName", "listen", "allowRemote", ...FILES];
const KEYS = ["tunnels", "logLevel", ...FILES];

/**
 * Turns what people write into the configuration of tunnels.
 * @param directory the absolute folder from which relative paths are taken
 * @param stdio there is one tunnel, of standard input and output, which listens nowhere
 * @param faults collects what is wrong; the result is fit for use only if it stays empty
 */
export function resolveConnect(
  input: unknown,
  { directory, stdio = false }: { readonly directory: string; readonly stdio?: boolean },
  faults: Fault[],
): ConnectConfig {
  const absolute = (path: string) => (isAbsolute(path) ? path : resolve(directory, path));
  const read = new Reader(faults, absolute, true);
  const { tunnels, logLevel, ...shared } = read.table(input, "", KEYS);
  const warnings: string[] = [];
  const all = read.list(tunnels, "tunnels", "tunnel").map((each, i): TunnelConfig => {
    const key = `tunnels[${i}]`;
    const table: Record<string, unknown> = { ...shared, ...read.table(each, key, TUNNEL_KEYS) };
    const server = serverOf(read, table["server"], `${key}.server`);
    const allowRemote = read.flag(table["allowRemote"] ?? false, `${key}.allowRemote`);
    const listen = stdio ? undefined : listenOf(read, table["listen"], `${key}.listen`, absolute);
    if (listen !== undefined && !isLocal(listen)) {
      const it = `${quote(formatAddress(listen))} can be reached from other machines`;
      if (allowRemote)
        warnings.push(`${it}: every program that connects there acts with this tunnel's certificate`);
      else read.fault(`${key}.listen`, `${it}; use 127.0.0.1 or a Unix socket, or allow it with allowRemote`);
    }
    const [ca, certificate, privateKey] = FILES.map((name) => read.path(table[name], `${key}.${name}`));
    return {
      key,
      server,
      serverName: nameOf(read, table["serverName"], `${key}.serverName`) ?? server.hostname,
      listen,
      ca: ca!,
      certificate: certificate!,
      privateKey: privateKey!,
    };
  });
  read.unique(
    all.map(({ listen }) => (listen === undefined || isPicked(listen) ? "" : formatAddress(listen))),
    "tunnels",
    ".listen",
  );
  return {
    tunnels: all,
    logLevel: logLevel === undefined ? undefined : read.choice(logLevel, "logLevel", LOG_LEVELS),
    warnings,
  };
}

function serverOf(read: Reader, value: unknown, key: string): Address {
  const address = parseTarget(value);
  if (address !== undefined && !("unix" in address)) return address;
  read.reject(value, key, "the proxy's HOST:PORT", 'write it like "proxy.example.com:7443" or "[::1]:7443"');
  return { hostname: "", port: 0 };
}

function listenOf(
  read: Reader,
  value: unknown,
  key: string,
  absolute: (path: string) => string,
): TargetAddress | undefined {
  const path = typeof value === "string" ? /^unix:([^\0]+)$/.exec(value)?.[1] : undefined;
  const address = path === undefined ? parseListenAddress(value) : parseTarget(`unix:${absolute(path)}`);
  if (address !== undefined) return address;
  const hint = 'write it like "127.0.0.1:5432", "[::1]:5432" or "unix:/run/user/1000/db.sock"';
  read.reject(value, key, "an address to listen on", hint);
  return undefined;
}

function nameOf(read: Reader, value: unknown, key: string): string | undefined {
  if (value === undefined) return undefined;
  const address = parseTarget(`${String(value)}:1`);
  if (typeof value === "string" && address !== undefined && !("unix" in address)) return address.hostname;
  read.reject(value, key, "a server name", 'write it like "orders.db.example.com"');
  return undefined;
}

const isLoopback = rangeList(["127.0.0.0/8", "::1/128"]);

function isLocal(listen: TargetAddress): boolean {
  return "unix" in listen || listen.hostname === "localhost" || isLoopback(listen.hostname);
}

function isPicked(listen: TargetAddress): boolean {
  return "port" in listen && listen.port === 0;
}
