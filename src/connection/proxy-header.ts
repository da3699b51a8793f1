// Reads the PROXY header that a balancer sends ahead of its client's bytes, in version 1 (a line) or 2 (binary). Pure.
// Specification: HAProxy's doc/proxy-protocol.txt, sections 2.1 and 2.2.

import { isIPv4, isIPv6 } from "node:net";
import { ipv6Groups, isMapped, type Address } from "../lib/address.ts";
import { SIGNATURE } from "../upstreams/proxy-protocol.ts";

/** The longest header that is read, in bytes; those of known balancers have less than 1,100. */
export const MAX_RECEIVED_BYTES = 4_096;

/** A whole header. */
export interface ProxyHeader {
  /** Its bytes; what follows belongs to the client. */
  readonly length: number;
  /** Who connected, and where to; undefined where the balancer names no address, as for a connection of its own. */
  readonly ends: ConnectionEnds | undefined;
}

/** Where a connection comes from and goes to: literal addresses; IPv4 addresses mapped into IPv6 are given as IPv4. */
export interface ConnectionEnds {
  readonly source: Address;
  readonly destination: Address;
}

/** There is no header, or a wrong one. */
export interface HeaderFault {
  readonly reason: "proxy_header_missing" | "proxy_header_invalid";
  readonly detail: string;
}

/**
 * @param bytes what has arrived so far, or the first {@link MAX_RECEIVED_BYTES} of it
 * @returns undefined while more of the header has to come
 */
export function readProxyHeader(bytes: Uint8Array): ProxyHeader | HeaderFault | undefined {
  if (bytes.length === 0) return undefined;
  try {
    if (beginsAs(bytes, V1_START)) return bytes.length < V1_START.length ? undefined : readLine(bytes);
    if (beginsAs(bytes, SIGNATURE)) return bytes.length < FIXED_BYTES ? undefined : readBinary(bytes);
  } catch (error) {
    if (error instanceof Fault) return { reason: "proxy_header_invalid", detail: error.message };
    throw error;
  }
  return { reason: "proxy_header_missing", detail: "something else came first" };
}

class Fault extends Error {}

/** Whether the bytes begin as another text does, as far as they go. */
function beginsAs(bytes: Uint8Array, start: ArrayLike<number>): boolean {
  const length = Math.min(bytes.length, start.length);
  for (let i = 0; i < length; i++) if (bytes[i] !== start[i]) return false;
  return true;
}

// ---- version 1

const V1_START = Buffer.from("PROXY ");

/** The longest line, with its end. */
const MAX_LINE_BYTES = 107;

function readLine(bytes: Uint8Array): ProxyHeader | undefined {
  const text = Buffer.from(bytes.subarray(0, MAX_LINE_BYTES)).toString("latin1");
  const end = text.indexOf("\r\n");
  if (end === -1) {
    if (text.length < MAX_LINE_BYTES) return undefined;
    throw new Fault(`the line does not end within ${MAX_LINE_BYTES} bytes`);
  }
  const length = end + 2;
  const [, family, source = "", destination = "", from = "", to = "", ...more] = text
    .slice(0, end)
    .split(" ");
  if (family === "UNKNOWN") return { length, ends: undefined };
  if (family !== "TCP4" && family !== "TCP6") throw new Fault("its family is not TCP4, TCP6 or UNKNOWN");
  if (more.length > 0) throw new Fault("the line has too many fields");
  const address = family === "TCP4" ? ipv4Of : ipv6Of;
  const ends = {
    source: { hostname: address(source), port: portOf(from) },
    destination: { hostname: address(destination), port: portOf(to) },
  };
  return { length, ends };
}

function ipv4Of(text: string): string {
  if (!isIPv4(text)) throw new Fault("an address is not one of IPv4");
  return text;
}

function ipv6Of(text: string): string {
  const groups = isIPv6(text) && !text.includes("%") ? ipv6Groups(text) : undefined;
  if (groups === undefined) throw new Fault("an address is not one of IPv6");
  return ipv6Text(groups);
}

function portOf(text: string): number {
  const port = /^(0|[1-9]\d{0,4})$/.test(text) ? Number(text) : Infinity;
  if (port > 65_535) throw new Fault("a port is not a number up to 65535");
  return port;
}

// ---- version 2

/** Signature, version and command, family, and the length of the rest. */
const FIXED_BYTES = 16;

/** The length of the addresses, by family and protocol: none, IPv4, IPv6 and Unix, each as a stream. */
const ADDRESS_BYTES: Readonly<Record<number, number>> = { 0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216 };

const CRC32C = 0x03;

function readBinary(bytes: Uint8Array): ProxyHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint8(12) >> 4;
  const command = view.getUint8(12) & 0x0f;
  const family = view.getUint8(13);
  const length = FIXED_BYTES + view.getUint16(14);
  if (version !== 2) throw new Fault(`its version is ${version}`);
  if (command > 1) throw new Fault(`its command is ${command}`);
  if (length > MAX_RECEIVED_BYTES) throw new Fault(`it has ${length} bytes, more than ${MAX_RECEIVED_BYTES}`);
  // LOCAL: the balancer speaks for itself, and the rest means nothing.
  const isLocal = command === 0;
  const start = FIXED_BYTES + (isLocal ? 0 : (ADDRESS_BYTES[family] ?? Infinity));
  if (start === Infinity)
    throw new Fault(`its family 0x${family.toString(16).padStart(2, "0")} is no stream`);
  if (start > length) throw new Fault("it is too short for its addresses");
  if (bytes.length < length) return undefined;
  if (isLocal || family === 0x00) return { length, ends: undefined };
  checkValues(bytes.subarray(0, length), start);
  if (family === 0x31) return { length, ends: undefined };
  const size = family === 0x11 ? 4 : 16;
  const place = (i: number) => {
    const at = FIXED_BYTES + i * size;
    const hostname = size === 4 ? bytes.subarray(at, at + 4).join(".") : ipv6Text(groupsAt(view, at));
    return { hostname, port: view.getUint16(FIXED_BYTES + 2 * size + 2 * i) };
  };
  return { length, ends: { source: place(0), destination: place(1) } };
}

/** The values after the addresses are skipped. One of them can be a checksum over the whole header. */
function checkValues(header: Uint8Array, start: number): void {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  let isChecked = false;
  for (let at = start; at < header.length;) {
    const next = at + 3 > header.length ? Infinity : at + 3 + view.getUint16(at + 1);
    if (next > header.length) throw new Fault("a value is longer than the header");
    if (header[at] === CRC32C) {
      if (next - at !== 7) throw new Fault("its checksum has not four bytes");
      // One is enough, and each takes time.
      if (isChecked) throw new Fault("it has two checksums");
      isChecked = true;
      const copy = Uint8Array.from(header);
      copy.fill(0, at + 3, next);
      if (crc32c(copy) !== view.getUint32(at + 3)) throw new Fault("its checksum is wrong");
    }
    at = next;
  }
}

/** The checksum of RFC 4960, appendix B. The runtime has the one of zlib only. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

// ---- addresses

function groupsAt(view: DataView, at: number): number[] {
  return Array.from({ length: 8 }, (_, i) => view.getUint16(at + 2 * i));
}

/** As the runtime writes it (RFC 5952, section 4), or as IPv4 if it is an IPv4 address mapped into IPv6. */
function ipv6Text(groups: readonly number[]): string {
  const [high = 0, low = 0] = groups.slice(6);
  if (isMapped(groups)) {
    return [high >> 8, high & 0xff, low >> 8, low & 0xff].join(".");
  }
  const text = groups.map((group) => group.toString(16)).join(":");
  return new URL(`http://[${text}]`).hostname.slice(1, -1);
}
