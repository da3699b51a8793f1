// The PROXY headers of balancers: right and wrong ones in tables, cut at every byte, and random bytes.

import { describe, expect, test } from "bun:test";
import { MAX_RECEIVED_BYTES, crc32c, readProxyHeader } from "../../src/connection/proxy-header.ts";
import { encodeProxyHeader, ownHeader } from "../../src/upstreams/proxy-protocol.ts";
import { addresses, encodeV1, encodeV2, rawV2, value, type Ends } from "../support/header.ts";
import { Random } from "../support/random.ts";

const IPV4: Ends = { source: "192.0.2.7", sourcePort: 50_123, destination: "198.51.100.1", port: 443 };
const IPV6: Ends = {
  source: "2001:0db8:0000:0000:0000:0000:0000:0007",
  sourcePort: 0,
  destination: "2001:0db8:ffff:0000:0000:0000:0000:0001",
  port: 65_535,
};
const MAPPED: Ends = { ...IPV6, source: "0000:0000:0000:0000:0000:ffff:c000:0207" };

const read = { hostname: "192.0.2.7", port: 50_123 };
const to = { hostname: "198.51.100.1", port: 443 };
const four = { source: read, destination: to };
const six = {
  source: { hostname: "2001:db8::7", port: 0 },
  destination: { hostname: "2001:db8:ffff::1", port: 65_535 },
};

/** A header of version 2 with a checksum, right or wrong. */
function withChecksum(ends: Ends, change = 0): Buffer {
  const header = encodeV2(ends, [value(0x04, Buffer.alloc(5)), value(0x03, Buffer.alloc(4))]);
  header.writeUInt32BE((crc32c(header) ^ change) >>> 0, header.length - 4);
  return header;
}

/** A header whose two checksums are right, each with its own bytes taken as zero. */
function twoChecksums(): Buffer {
  const header = encodeV2(IPV4, [value(0x03, Buffer.alloc(4)), value(0x03, Buffer.alloc(4))]);
  header.writeUInt32BE(crc32c(header), header.length - 11);
  return header;
}

const line = (text: string) => Buffer.from(`${text}\r\n`);

const WHOLE: [name: string, header: Buffer, ends: object | undefined][] = [
  ["version 1, IPv4", encodeV1(IPV4), four],
  ["version 1, IPv6", encodeV1(IPV6), six],
  ["version 1, IPv6, shortened", line("PROXY TCP6 2001:DB8::7 2001:db8:ffff::1 0 65535"), six],
  ["version 1, mapped", line("PROXY TCP6 ::ffff:192.0.2.7 ::FFFF:c633:6401 50123 443"), four],
  ["version 1, unknown", line("PROXY UNKNOWN"), undefined],
  ["version 1, unknown with more", line("PROXY UNKNOWN ffff::1 ffff::2 1 2"), undefined],
  ["version 1, the longest line", line(`PROXY UNKNOWN ${"x".repeat(91)}`), undefined],
  ["version 2, IPv4", encodeV2(IPV4), four],
  ["version 2, IPv6", encodeV2(IPV6), six],
  ["version 2, mapped", encodeV2(MAPPED), { ...six, source: { hostname: "192.0.2.7", port: 0 } }],
  [
    "version 2, with values",
    encodeV2(IPV4, [value(0x02, Buffer.from("a")), value(0xe0, Buffer.alloc(0))]),
    four,
  ],
  ["version 2, with its checksum", withChecksum(IPV4), four],
  ["version 2, Unix", rawV2(0x21, 0x31, Buffer.alloc(216, 1)), undefined],
  ["version 2, unspecified", rawV2(0x21, 0x00, Buffer.alloc(0)), undefined],
  ["version 2, unspecified with more", rawV2(0x21, 0x00, Buffer.alloc(9, 7)), undefined],
  ["version 2, LOCAL", rawV2(0x20, 0x00, Buffer.alloc(0)), undefined],
  ["version 2, LOCAL of a family that means nothing", rawV2(0x20, 0xff, Buffer.alloc(30, 9)), undefined],
  ["version 2, the longest", encodeV2(IPV4, [value(0x04, Buffer.alloc(4_065))]), four],
  ["the proxy's own, version 1", Buffer.from(ownHeader("v1")), undefined],
  ["the proxy's own, version 2", Buffer.from(ownHeader("v2")), undefined],
];

const INVALID: [name: string, header: Buffer, detail: string][] = [
  ["version 1, a longer line", line(`PROXY UNKNOWN ${"x".repeat(92)}`), "within 107 bytes"],
  ["version 1, without end", Buffer.from(`PROXY TCP4 ${"1".repeat(200)}`), "within 107 bytes"],
  ["version 1, another family", line("PROXY UDP4 192.0.2.7 198.51.100.1 1 2"), "family"],
  ["version 1, lower case", line("PROXY tcp4 192.0.2.7 198.51.100.1 1 2"), "family"],
  ["version 1, no family", line("PROXY "), "family"],
  ["version 1, IPv6 as IPv4", line("PROXY TCP4 ::1 ::1 1 2"), "IPv4"],
  ["version 1, IPv4 as IPv6", line("PROXY TCP6 192.0.2.7 198.51.100.1 1 2"), "IPv6"],
  ["version 1, a leading zero", line("PROXY TCP4 192.0.02.7 198.51.100.1 1 2"), "IPv4"],
  ["version 1, a zone", line("PROXY TCP6 fe80::1%lo ::1 1 2"), "IPv6"],
  ["version 1, a host name", line("PROXY TCP4 localhost 198.51.100.1 1 2"), "IPv4"],
  ["version 1, two spaces", line("PROXY TCP4  192.0.2.7 198.51.100.1 1 2"), "too many"],
  ["version 1, a tabulator", line("PROXY TCP4\t192.0.2.7 198.51.100.1 1 2"), "family"],
  ["version 1, a line feed inside", line("PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n"), "port"],
  ["version 1, a port too high", line("PROXY TCP4 192.0.2.7 198.51.100.1 1 65536"), "port"],
  ["version 1, a negative port", line("PROXY TCP4 192.0.2.7 198.51.100.1 -1 2"), "port"],
  ["version 1, a port with zeros", line("PROXY TCP4 192.0.2.7 198.51.100.1 01 2"), "port"],
  ["version 1, no ports", line("PROXY TCP4 192.0.2.7 198.51.100.1"), "port"],
  ["version 1, too much", line("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3"), "too many"],
  ["version 2, of version 1", rawV2(0x11, 0x11, addresses(IPV4)[1]), "version is 1"],
  ["version 2, of version 3", rawV2(0x31, 0x11, addresses(IPV4)[1]), "version is 3"],
  ["version 2, another command", rawV2(0x22, 0x11, addresses(IPV4)[1]), "command is 2"],
  ["version 2, datagrams", rawV2(0x21, 0x12, addresses(IPV4)[1]), "0x12 is no stream"],
  ["version 2, another family", rawV2(0x21, 0x41, addresses(IPV4)[1]), "0x41 is no stream"],
  ["version 2, no protocol", rawV2(0x21, 0x10, addresses(IPV4)[1]), "0x10 is no stream"],
  ["version 2, too short for IPv4", rawV2(0x21, 0x11, Buffer.alloc(11)), "too short"],
  ["version 2, IPv4 as IPv6", rawV2(0x21, 0x21, addresses(IPV4)[1]), "too short"],
  ["version 2, too short for Unix", rawV2(0x21, 0x31, Buffer.alloc(215)), "too short"],
  ["version 2, a length that lies", rawV2(0x21, 0x11, addresses(IPV4)[1], 8), "too short"],
  ["version 2, too long", rawV2(0x21, 0x11, addresses(IPV4)[1], 65_535), "65551 bytes"],
  ["version 2, one byte too long", encodeV2(IPV4, [value(0x04, Buffer.alloc(4_066))]), "4097 bytes"],
  ["version 2, a value too long", encodeV2(IPV4, [Buffer.from([2, 0, 2, 65])]), "longer than the header"],
  ["version 2, a value without length", encodeV2(IPV4, [Buffer.from([2, 0])]), "longer than the header"],
  ["version 2, a wrong checksum", withChecksum(IPV4, 1), "checksum is wrong"],
  ["version 2, two checksums", twoChecksums(), "two checksums"],
  ["version 2, a checksum of three bytes", encodeV2(IPV4, [value(3, Buffer.alloc(3))]), "four bytes"],
];

const MISSING: [name: string, bytes: Buffer][] = [
  ["a ClientHello", Buffer.from("1603010200010001fc0303", "hex")],
  ["a request of HTTP", Buffer.from("GET / HTTP/1.1\r\n")],
  ["a header of version 1 in lower case", Buffer.from("proxy TCP4")],
  ["a space", Buffer.from(" ")],
  ["zeros", Buffer.alloc(20)],
  ["a signature with a wrong end", Buffer.from("0d0a0d0a000d0a515549540b", "hex")],
];

describe("a PROXY header", () => {
  test.each(WHOLE)("is read: %s", (_, header, ends) => {
    expect(readProxyHeader(header)).toEqual({ length: header.length, ends } as never);
    const more = Buffer.concat([header, Buffer.from("160301", "hex")]);
    expect(readProxyHeader(more)).toEqual({ length: header.length, ends } as never);
  });

  test.each(WHOLE)("is waited for while it is not whole: %s", (_, header) => {
    for (let length = 0; length < header.length; length++) {
      expect(readProxyHeader(header.subarray(0, length))).toBeUndefined();
    }
  });

  test.each(INVALID)("is refused: %s", (_, header, detail) => {
    expect(readProxyHeader(header)).toEqual({
      reason: "proxy_header_invalid",
      detail: expect.stringContaining(detail),
    } as never);
  });

  test.each(INVALID)("is waited for or refused, never read, when a part of it has come: %s", (_, header) => {
    for (let length = 0; length < header.length; length++) {
      const heard = readProxyHeader(header.subarray(0, length));
      if (heard !== undefined) expect(heard).toMatchObject({ reason: "proxy_header_invalid" });
    }
  });

  test.each(MISSING)("is missed where there is something else: %s", (_, bytes) => {
    expect(readProxyHeader(bytes)).toMatchObject({ reason: "proxy_header_missing" });
  });

  test("is read as the proxy itself writes it", () => {
    const names = { client: "alice@dba", tlsVersion: "TLSv1.3", cipher: "x", serverName: "a", alpn: "h2" };
    for (const version of ["v1", "v2"] as const) {
      const header = encodeProxyHeader(version, { ...four, ...names, resumed: false, uniqueId: "1" })!;
      expect(readProxyHeader(header)).toEqual({ length: header.length, ends: four });
    }
  });

  test.each([1, 2, 3])(
    "of random bytes does not throw, and never has more bytes than came (seed %i)",
    (seed) => {
      const random = new Random(seed);
      const below = (most: number) => Math.floor(random.next() * most);
      const starts = WHOLE.map(([, header]) => header);
      for (let i = 0; i < 20_000; i++) {
        const bytes = Buffer.from(starts[below(starts.length)]!);
        for (let change = below(4); change >= 0; change--) bytes[below(bytes.length)] = below(256);
        const heard = readProxyHeader(bytes);
        if (heard === undefined || "reason" in heard) continue;
        expect(heard.length).toBeLessThanOrEqual(Math.min(bytes.length, MAX_RECEIVED_BYTES));
      }
    },
  );
});

test("the checksum is that of the Castagnoli polynomial", () => {
  // The check value of CRC-32/ISCSI.
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
});
