// PROXY protocol headers, byte by byte, and the values for which none is written.

import { describe, expect, test } from "bun:test";
import { encodeProxyHeader, MAX_HEADER_BYTES, type Caller } from "../../src/upstreams/proxy-protocol.ts";
import { Random } from "../support/random.ts";

const caller: Caller = {
  source: { hostname: "192.0.2.1", port: 56_324 },
  destination: { hostname: "198.51.100.7", port: 443 },
  client: "alice@admin",
  tlsVersion: "TLSv1.3",
  cipher: "TLS_AES_128_GCM_SHA256",
  serverName: undefined,
  alpn: undefined,
  resumed: false,
  uniqueId: "c-1",
};

function between(source: string, destination: string, over: Partial<Caller> = {}): Caller {
  return {
    ...caller,
    source: { ...caller.source, hostname: source },
    destination: { ...caller.destination, hostname: destination },
    ...over,
  };
}

describe("PROXY protocol, version 1", () => {
  test.each([
    ["192.0.2.1", "198.51.100.7", "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"],
    ["255.255.255.255", "0.0.0.0", "PROXY TCP4 255.255.255.255 0.0.0.0 56324 443\r\n"],
    ["::ffff:192.0.2.1", "::FFFF:c633:6407", "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"],
    ["0:0:0:0:0:ffff:c000:201", "198.51.100.7", "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"],
    ["2001:DB8::1", "::1", "PROXY TCP6 2001:db8::1 ::1 56324 443\r\n"],
    ["2001:db8:0:0:1:0:0:1", "::", "PROXY TCP6 2001:db8::1:0:0:1 :: 56324 443\r\n"],
    ["1:0:2:3:4:5:6:7", "1::", "PROXY TCP6 1:0:2:3:4:5:6:7 1:: 56324 443\r\n"],
    ["fe80::1%eth0", "fe80::2%2", "PROXY TCP6 fe80::1 fe80::2 56324 443\r\n"],
    // Two address families: IPv4 becomes mapped IPv6, in hexadecimal groups as version 1 requires.
    ["192.0.2.1", "2001:db8::1", "PROXY TCP6 ::ffff:c000:201 2001:db8::1 56324 443\r\n"],
    ["2001:db8::1", "::ffff:192.0.2.1", "PROXY TCP6 2001:db8::1 ::ffff:c000:201 56324 443\r\n"],
    // These look like mapped addresses, but are not.
    ["::1.2.3.4", "::ffff:0:1.2.3.4", "PROXY TCP6 ::102:304 ::ffff:0:102:304 56324 443\r\n"],
  ])("a version 1 header is a line, from %s to %s", (source, destination, line) => {
    expect(text(encodeProxyHeader("v1", between(source, destination)))).toBe(line);
  });

  test("a version 1 header has at most 104 bytes, of the 107 that a receiver accepts", () => {
    const longest = "1111:2222:3333:4444:5555:6666:7777:8888";
    const end = { hostname: longest, port: 65_535 };
    const header = encodeProxyHeader("v1", { ...caller, source: end, destination: end });
    expect(text(header)).toBe(`PROXY TCP6 ${longest} ${longest} 65535 65535\r\n`);
    expect(header!.length).toBe(104);
  });

  test("a version 1 header carries no names, and invalid names do not prevent it", () => {
    const header = encodeProxyHeader("v1", { ...caller, client: "a\n@b", uniqueId: "x".repeat(200) });
    expect(text(header)).toBe("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n");
  });
});

describe("PROXY protocol, version 2", () => {
  const signature = "0d0a0d0a 000d0a51 5549540a";
  // 0x20 with 5 + 10 + 14 + 25 bytes: client bits 7, verify 0; 0x21 "TLSv1.3"; 0x22 "alice@admin";
  // 0x23 "TLS_AES_128_GCM_SHA256".
  const ssl = `20 0036 07 00000000 21 0007 544c5376312e33 22 000b 616c6963654061646d696e
    23 0016 544c535f4145535f3132385f47434d5f534841323536`;

  test.each<[string, Caller, string]>([
    [
      "IPv4",
      caller,
      `21 11 004b c0000201 c6336407 dc04 01bb
       05 0003 632d31 ${ssl}`,
    ],
    [
      "IPv4 that was mapped to IPv6",
      between("::ffff:192.0.2.1", "::ffff:198.51.100.7"),
      `21 11 004b c0000201 c6336407 dc04 01bb
       05 0003 632d31 ${ssl}`,
    ],
    [
      "IPv6, without the zone",
      between("2001:db8::1", "fe80::2%eth0"),
      `21 21 0063 20010db8000000000000000000000001 fe800000000000000000000000000002 dc04 01bb
       05 0003 632d31 ${ssl}`,
    ],
    [
      "both families",
      between("192.0.2.1", "2001:db8::1"),
      `21 21 0063 00000000000000000000ffffc0000201 20010db8000000000000000000000001 dc04 01bb
       05 0003 632d31 ${ssl}`,
    ],
    [
      "ALPN and server name",
      { ...caller, alpn: "h2", serverName: "db.example" },
      `21 11 005d c0000201 c6336407 dc04 01bb
       01 0002 6832 02 000a 64622e6578616d706c65 05 0003 632d31 ${ssl}`,
    ],
    [
      "names in UTF-8",
      { ...caller, client: "ö@π", serverName: "größe" },
      `21 11 004f c0000201 c6336407 dc04 01bb
       02 0007 6772c3b6c39f65 05 0003 632d31
       20 0030 07 00000000 21 0007 544c5376312e33 22 0005 c3b640cf80
       23 0016 544c535f4145535f3132385f47434d5f534841323536`,
    ],
  ])("a version 2 header encodes %s", (_, each, hex) => {
    const expected = `${signature} ${hex}`.replace(/\s/g, "");
    expect(Buffer.from(encodeProxyHeader("v2", each)!).toString("hex")).toBe(expected);
  });

  test("a version 2 header of random values is read back by an independent decoder", () => {
    const random = new Random(1);
    const word = (longest: number) =>
      Array.from({ length: random.int(1, longest) }, () => String.fromCharCode(random.int(0x21, 0x7e))).join(
        "",
      );
    const name = (longest: number) =>
      Array.from({ length: random.int(1, longest) }, () => random.pick([..."abc@.-éπ漢𝒳"])).join("");
    const port = () => random.pick([0, 1, 255, 256, 65_535, random.int(0, 65_535)]);
    const ip = () => {
      if (random.next() < 0.4) return [...random.bytes(4)].join(".");
      const groups = Array.from({ length: 8 }, () => (random.next() < 0.5 ? 0 : random.int(1, 0xffff)));
      return groups.map((group) => group.toString(16)).join(":");
    };
    for (let i = 0; i < 5_000; i++) {
      const each: Caller = {
        source: { hostname: ip(), port: port() },
        destination: { hostname: ip(), port: port() },
        client: name(40),
        tlsVersion: word(10),
        cipher: word(40),
        serverName: random.next() < 0.5 ? undefined : name(60),
        alpn: random.next() < 0.5 ? undefined : word(40),
        uniqueId: word(128),
        resumed: random.next() < 0.5,
      };
      const mixed = each.source.hostname.includes(":") || each.destination.hostname.includes(":");
      const plain = ({ hostname, port }: Caller["source"]) => ({
        hostname: !mixed || hostname.includes(":") ? hostname : mapped(hostname),
        port,
      });
      expect(decode(encodeProxyHeader("v2", each)!)).toEqual({
        ...each,
        source: plain(each.source),
        destination: plain(each.destination),
      });
    }
  });
});

describe("limits of PROXY headers", () => {
  test.each([
    "",
    "localhost",
    "unknown",
    "1.2.3",
    "1.2.3.256",
    "01.2.3.4",
    "1.2.3.4%eth0",
    "[::1]",
    "1::2::3",
    "::fffff",
    "1:2:3:4:5:6:7:8:9",
    "::1%",
    "::1 ",
    "1.2.3.4\r\n",
    "/run/socket",
  ])("a PROXY header is not written for the address %j", (hostname) => {
    for (const version of ["v1", "v2"] as const) {
      expect(encodeProxyHeader(version, between(hostname, "1.2.3.4"))).toBeUndefined();
      expect(encodeProxyHeader(version, between("1.2.3.4", hostname))).toBeUndefined();
    }
  });

  test.each([-1, 65_536, 1.5, NaN, Infinity])("a PROXY header is not written for the port %p", (port) => {
    for (const version of ["v1", "v2"] as const) {
      for (const end of ["source", "destination"] as const) {
        const each = { ...caller, [end]: { hostname: "1.2.3.4", port } };
        expect(encodeProxyHeader(version, each)).toBeUndefined();
      }
    }
  });

  const control = ["", "a\0", "a\n", "a\x7f", "a\x9f", "a b", "a\u200b", "\u202eb", "a\ud800", "\udc00a"];
  const notAscii = ["é", "漢"];

  test.each<[keyof Caller, string[]]>([
    ["client", [...control, "a".repeat(MAX_HEADER_BYTES)]],
    ["serverName", [...control, "a".repeat(256), `${"a".repeat(254)}é`]],
    ["alpn", [...control, ...notAscii, "a".repeat(256)]],
    ["uniqueId", [...control, ...notAscii, "a".repeat(129)]],
    ["tlsVersion", [...control, ...notAscii, "a".repeat(MAX_HEADER_BYTES)]],
    ["cipher", [...control, ...notAscii, "a".repeat(MAX_HEADER_BYTES)]],
  ])("a version 2 header is not written for invalid values of %s", (field, values) => {
    for (const value of values) {
      expect([value, encodeProxyHeader("v2", { ...caller, [field]: value })]).toEqual([value, undefined]);
    }
  });

  test("a version 2 header is not written for a client name of half a million characters", () => {
    expect(encodeProxyHeader("v2", { ...caller, client: "a@".repeat(250_000) })).toBeUndefined();
  });

  test("a version 2 header has at most 1024 bytes", () => {
    const length = encodeProxyHeader("v2", { ...caller, client: "a" })!.length;
    const room = MAX_HEADER_BYTES - length + 1;
    expect(encodeProxyHeader("v2", { ...caller, client: "a".repeat(room) })).toHaveLength(1_024);
    expect(encodeProxyHeader("v2", { ...caller, client: "a".repeat(room + 1) })).toBeUndefined();
    expect(encodeProxyHeader("v2", { ...caller, client: "é".repeat(room / 2 + 1) })).toBeUndefined();
  });

  test("a version 2 header with the longest other fields has room for a client of 273 bytes", () => {
    const longest: Caller = {
      ...between("2001:db8::1", "2001:db8::2"),
      cipher: "TLS_CHACHA20_POLY1305_SHA256",
      serverName: "s".repeat(255),
      alpn: "p".repeat(255),
      uniqueId: "u".repeat(128),
    };
    expect(encodeProxyHeader("v2", { ...longest, client: "𝒳".repeat(64) })).toBeDefined();
    expect(encodeProxyHeader("v2", { ...longest, client: "a".repeat(273) })).toHaveLength(1_024);
    expect(encodeProxyHeader("v2", { ...longest, client: "a".repeat(274) })).toBeUndefined();
  });
});

function text(header: Uint8Array | undefined): string | undefined {
  return header && Buffer.from(header).toString("latin1");
}

/** ::ffff:a.b.c.d in the eight groups that {@link decode} writes. */
function mapped(hostname: string): string {
  const [a, b, c, d] = hostname.split(".").map(Number) as [number, number, number, number];
  return `0:0:0:0:0:ffff:${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
}

/** Reads a header of version 2 strictly: no byte may be left over, and the client must be verified. */
function decode(header: Uint8Array): Caller {
  const view = new DataView(header.buffer, header.byteOffset, header.length);
  if (text(header.subarray(0, 12)) !== "\r\n\r\n\0\r\nQUIT\n") throw new Error("no signature");
  if (view.getUint8(12) !== 0x21 || view.getUint16(14) !== header.length - 16) throw new Error("no header");
  const six = view.getUint8(13) === 0x21;
  if (!six && view.getUint8(13) !== 0x11) throw new Error("no family");
  const size = six ? 16 : 4;
  const ip = (at: number) =>
    six
      ? Array.from({ length: 8 }, (_, i) => view.getUint16(at + 2 * i).toString(16)).join(":")
      : header.subarray(at, at + 4).join(".");
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const values = (from: number, to: number): Map<number, [number, number]> => {
    const found = new Map<number, [number, number]>();
    while (from < to) {
      const start = from + 3;
      from = start + view.getUint16(from + 1);
      found.set(view.getUint8(start - 3), [start, from]);
    }
    if (from !== to) throw new Error("does not end where it should");
    return found;
  };
  const outer = values(16 + 2 * size + 4, header.length);
  const [ssl, end] = outer.get(0x20)!;
  // Bits PP2_CLIENT_SSL and _CERT_SESS; _CERT_CONN is set only where the client sent its certificate on this connection.
  const resumed = view.getUint8(ssl) === 5;
  if ((!resumed && view.getUint8(ssl) !== 7) || view.getUint32(ssl + 1) !== 0)
    throw new Error("not verified");
  const inner = values(ssl + 5, end);
  const read = (range: [number, number] | undefined) => range && utf8.decode(header.subarray(...range));
  return {
    source: { hostname: ip(16), port: view.getUint16(16 + 2 * size) },
    destination: { hostname: ip(16 + size), port: view.getUint16(18 + 2 * size) },
    client: read(inner.get(0x22))!,
    tlsVersion: read(inner.get(0x21))!,
    cipher: read(inner.get(0x23))!,
    serverName: read(outer.get(0x02)),
    alpn: read(outer.get(0x01)),
    uniqueId: read(outer.get(0x05))!,
    resumed,
  };
}
