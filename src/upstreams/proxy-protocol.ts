// The PROXY protocol's header: tells a target who the client is, ahead of the client's bytes. Pure.
// Specification: HAProxy's doc/proxy-protocol.txt, sections 2.1 (version 1, a line) and 2.2 (version 2, binary).

import { isIPv4, isIPv6 } from "node:net";
import { ipv6Groups, type Address } from "../lib/address.ts";
import type { ProxyProtocolVersion } from "../config/config.ts";

/** What a target may learn of a client and its connection. */
export interface Caller {
  /** The client's address: literal addresses only; IPv4 addresses mapped into IPv6 count as IPv4. */
  readonly source: Address;
  /** The address that it connected to. */
  readonly destination: Address;
  /** The whole Common Name, `user@group`. */
  readonly client: string;
  /** Such as `TLSv1.3`. */
  readonly tlsVersion: string;
  /** Such as `TLS_AES_128_GCM_SHA256`. */
  readonly cipher: string;
  /** The server name that the client asked for (SNI); undefined if it asked for none, never empty. */
  readonly serverName: string | undefined;
  /** The negotiated protocol (ALPN); undefined if there is none, never empty. */
  readonly alpn: string | undefined;
  /** Whether the TLS session resumes an earlier one, with that one's certificate. */
  readonly resumed: boolean;
  /** Names the connection, to find it again in the logs of both sides: 1 to 128 visible ASCII characters. */
  readonly uniqueId: string;
}

/**
 * The longest header of version 2, in bytes, all included. The specification allows 65,551, real targets do not: nginx
 * accepts what fits its `client_header_buffer_size` (1 KiB), HAProxy from 2.9 on accepts no value above 1,024, Varnish
 * accepts 1,024 (by default, with its `workspace_session` of 0.75k, some 400). HAProxy also refuses a header that
 * arrives in pieces; one packet of any IPv6 path carries this much. With everything else at its longest, 273 bytes are
 * left for the Common Name: enough for 64 characters of any script (RFC 5280, ub-common-name).
 */
export const MAX_HEADER_BYTES = 1_024;

/**
 * Writes the header. Addresses of two families are both written as IPv6. An IPv6 zone is left out: it means nothing on
 * another machine.
 *
 * @returns undefined if the header cannot tell the truth: there is no literal address or no port, or a header of
 *   version 2 would exceed {@link MAX_HEADER_BYTES} or have a field that is empty, too long or has forbidden
 *   characters. The caller must then refuse the client: a target that learns less would take it for another client, or
 *   for none.
 */
export function encodeProxyHeader(version: ProxyProtocolVersion, caller: Caller): Uint8Array | undefined {
  const ends = [caller.source, caller.destination];
  const ports = ends.map(({ port }) => port);
  const addresses = ends.map(({ hostname }) => readIP(hostname)).filter((ip) => ip !== undefined);
  if (addresses.length !== ends.length || !ports.every(isPort)) return undefined;
  const family = addresses.every(isMapped) ? 4 : 6;
  return version === "v1" ? line(family, addresses, ports) : binary(family, addresses, ports, caller);
}

/** The header of a connection that the proxy makes for its own use, such as a health check. */
export function ownHeader(version: ProxyProtocolVersion): Uint8Array {
  return version === "v1"
    ? Buffer.from("PROXY UNKNOWN\r\n")
    : Uint8Array.from([...SIGNATURE, LOCAL, 0, 0, 0]);
}

// ---- version 1

/** At most 104 bytes; a receiver takes 107. */
function line(family: 4 | 6, addresses: IP[], ports: number[]): Uint8Array {
  const texts = addresses.map(({ text, bytes }) => (family === 4 ? bytes.subarray(12).join(".") : text));
  return Buffer.from(`PROXY TCP${family} ${[...texts, ...ports].join(" ")}\r\n`);
}

// ---- version 2

/** What version 2 begins with. */
export const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
/** Version 2, commands LOCAL and PROXY. */
const LOCAL = 0x20;
const PROXY = 0x21;
/** AF_INET and AF_INET6, each with STREAM. */
const FAMILY = { 4: 0x11, 6: 0x21 };

/** Types of the values after the addresses: PP2_TYPE_… and PP2_SUBTYPE_SSL_…. */
const ALPN = 0x01;
const AUTHORITY = 0x02;
const UNIQUE_ID = 0x05;
const SSL = 0x20;
const SSL_VERSION = 0x21;
const SSL_CN = 0x22;
const SSL_CIPHER = 0x23;

const CLIENT_SSL = 0x01;
const CLIENT_CERT_CONN = 0x02;
const CLIENT_CERT_SESS = 0x04;
/** 32 bits: the certificate was verified. */
const VERIFIED = [0, 0, 0, 0];

function binary(family: 4 | 6, addresses: IP[], ports: number[], caller: Caller): Uint8Array | undefined {
  const { client, tlsVersion, cipher, serverName, alpn, uniqueId } = caller;
  const fit =
    isWord(tlsVersion) &&
    isWord(cipher) &&
    isName(client) &&
    isWord(uniqueId, 128) &&
    (alpn === undefined || isWord(alpn, 255)) &&
    (serverName === undefined || isName(serverName, 255));
  if (!fit) return undefined;

  const rest = [
    ...addresses.flatMap(({ bytes }) => [...(family === 4 ? bytes.subarray(12) : bytes)]),
    ...ports.flatMap(uint16),
    ...(alpn === undefined ? [] : tlv(ALPN, utf8(alpn))),
    ...(serverName === undefined ? [] : tlv(AUTHORITY, utf8(serverName))),
    ...tlv(UNIQUE_ID, utf8(uniqueId)),
    ...tlv(SSL, [
      // The client gave a certificate in this session and, unless the session is resumed, on this connection.
      CLIENT_SSL | CLIENT_CERT_SESS | (caller.resumed ? 0 : CLIENT_CERT_CONN),
      ...VERIFIED,
      ...tlv(SSL_VERSION, utf8(tlsVersion)),
      ...tlv(SSL_CN, utf8(client)),
      ...tlv(SSL_CIPHER, utf8(cipher)),
    ]),
  ];
  const header = [...SIGNATURE, PROXY, FAMILY[family], ...uint16(rest.length), ...rest];
  return header.length <= MAX_HEADER_BYTES ? Uint8Array.from(header) : undefined;
}

function tlv(type: number, value: number[]): number[] {
  return [type, ...uint16(value.length), ...value];
}

/** Big endian. A number that does not fit belongs to a value that is longer than any header. */
function uint16(value: number): number[] {
  return [value >> 8, value & 0xff];
}

function utf8(text: string): number[] {
  return [...Buffer.from(text)];
}

/** Visible ASCII, of limited length. */
function isWord(text: string, longest = MAX_HEADER_BYTES): boolean {
  return text.length <= longest && /^[!-~]+$/.test(text);
}

/**
 * Accepts what can be a host or a client's name: no white space, no control or invisible formatting character, no
 * unpaired surrogate, and a limited number of UTF-8 bytes. HAProxy accepts up to 255; host names have up to 253.
 */
function isName(text: string, longest = MAX_HEADER_BYTES): boolean {
  return text !== "" && !/[\p{Z}\p{C}]/u.test(text) && Buffer.byteLength(text) <= longest;
}

// ---- addresses

/** An IPv6 address, or an IPv4 address mapped into one (RFC 4291, section 2.5.5.2). */
interface IP {
  /** Written as in RFC 5952, section 4, but in hexadecimal throughout. */
  readonly text: string;
  /** 16 bytes; the last four are the IPv4 address. */
  readonly bytes: Uint8Array;
}

function readIP(hostname: string): IP | undefined {
  if (!isIPv4(hostname) && !isIPv6(hostname)) return undefined;
  const address = isIPv4(hostname) ? `::ffff:${hostname}` : hostname.replace(/%.*/, "");
  const text = URL.parse(`http://[${address}]`)?.hostname.slice(1, -1);
  const groups = ipv6Groups(address);
  if (text === undefined || groups === undefined) return undefined;
  return { text, bytes: Uint8Array.from(groups.flatMap(uint16)) };
}

function isMapped({ text }: IP): boolean {
  return /^::ffff:[\da-f]+:[\da-f]+$/.test(text);
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 0 && port <= 65_535;
}
