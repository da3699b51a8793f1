// Addresses as people write them: ":5000", "127.0.0.1:5000", "[::1]:5000", "db.internal:5432", "unix:/run/db.sock",
// "systemd:web". Pure.

import { isIPv4, isIPv6 } from "node:net";

/** A host and a port. */
export interface Address {
  /** A host name or a literal address without brackets; empty for every interface, IPv4 and IPv6. */
  readonly hostname: string;
  /** 0 to 65535; 0 lets the system pick when listening. */
  readonly port: number;
  /** The name of a socket that systemd has opened; host and port are empty and 0 then. */
  readonly systemd?: string;
}

/** A Unix socket. */
export interface UnixAddress {
  /** Absolute; at most 107 bytes (sockaddr_un, unix(7)). */
  readonly unix: string;
}

/** Where a target is. */
export type TargetAddress = Address | UnixAddress;

/** Reads an address to listen on: the host may be left out, the port may be 0. Returns undefined for any other text. */
export function parseListenAddress(text: unknown): Address | undefined {
  const address = parse(text);
  return address !== undefined && (address.hostname === "" || isHost(address.hostname)) ? address : undefined;
}

/** Reads where clients are accepted: an address, or `systemd:` and the name of a socket that systemd passes. */
export function parseListener(text: unknown): Address | undefined {
  // systemd's names are printable ASCII without a colon (sd_listen_fds_with_names(3)); spaces are left out here.
  const systemd = typeof text === "string" ? /^systemd:([!-9;-~]{1,255})$/.exec(text)?.[1] : undefined;
  return systemd === undefined ? parseListenAddress(text) : { hostname: "", port: 0, systemd };
}

/** Whether the system picks the port. */
export function isPicked({ port, systemd }: Address): boolean {
  return port === 0 && systemd === undefined;
}

/** Reads an address to connect to: host and port, or `unix:` and a path. Returns undefined for any other text. */
export function parseTarget(text: unknown): TargetAddress | undefined {
  if (typeof text === "string" && text.startsWith("unix:")) {
    const unix = text.slice("unix:".length);
    return /^\/[^\0]*$/.test(unix) && Buffer.byteLength(unix) <= 107 ? { unix } : undefined;
  }
  const address = parse(text);
  return address !== undefined && address.port > 0 && isHost(address.hostname) ? address : undefined;
}

/** Writes an address in the form in which it is read. IPv4 addresses mapped into IPv6 are written as IPv4. */
export function formatAddress(address: TargetAddress): string {
  if ("unix" in address) return `unix:${address.unix}`;
  const { hostname, port, systemd } = address;
  if (systemd !== undefined) return `systemd:${systemd}`;
  const host = hostname.startsWith("::ffff:") && isIPv4(hostname.slice(7)) ? hostname.slice(7) : hostname;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether an IPv6 address is an IPv4 address mapped into one (RFC 4291, section 2.5.5.2). */
export function isMapped(groups: readonly number[] | undefined): boolean {
  return groups?.slice(0, 6).join() === "0,0,0,0,0,65535";
}

/** The eight groups of an IPv6 address; undefined for any other text. */
export function ipv6Groups(address: string): number[] | undefined {
  if (!isIPv6(address)) return undefined;
  // The URL parser accepts every form of an IPv6 address, and writes all of them the same way.
  const text = URL.parse(`http://[${address.replace(/%.*/, "")}]`)?.hostname.slice(1, -1);
  const [head = [], tail = []] = (text ?? "").split("::").map((part) => part.split(":").filter(Boolean));
  const zeroes = Array<string>(8 - head.length - tail.length).fill("0");
  return [...head, ...zeroes, ...tail].map((group) => parseInt(group, 16));
}

function parse(text: unknown): Address | undefined {
  const match = typeof text === "string" ? /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) : null;
  if (match === null) return undefined;
  const [, bracketed, bare, digits] = match;
  const port = Number(digits);
  if (port > 65_535 || (bracketed !== undefined && !isIPv6(bracketed))) return undefined;
  return { hostname: bracketed ?? bare ?? "", port };
}

function isHost(text: string): boolean {
  if (isIPv6(text)) return true;
  // A text that looks like an IPv4 address must be one: "10.0.0.256" is a typing error, not a name.
  if (/^[\d.]+$/.test(text)) return isIPv4(text);
  return text.length <= 253 && /^[a-z\d_]([a-z\d_.-]*[a-z\d_.])?$/i.test(text);
}
