// The source of a connection (an IPv4 address or an IPv6 /64), and address ranges.

import { describe, expect, test } from "bun:test";
import { parseRange, rangeList, sourceOf } from "../../src/lib/source.ts";

describe("sourceOf", () => {
  test.each([
    ["1.2.3.4", { family: 4, high: 0, low: 0x01020304 }],
    ["255.255.255.255", { family: 4, high: 0, low: -1 }],
    ["::ffff:1.2.3.4", { family: 4, high: 0, low: 0x01020304 }],
    ["2001:db8:1:2:3:4:5:6", { family: 6, high: 0x20010db8, low: 0x00010002 }],
    ["2001:db8:1:2::", { family: 6, high: 0x20010db8, low: 0x00010002 }],
    ["::1", { family: 6, high: 0, low: 0 }],
    ["fe80::1%eth0", { family: 6, high: 0xfe800000 | 0, low: 0 }],
  ] as const)("the source of the address %p is its IPv4 address or IPv6 /64", (address, source) =>
    expect(sourceOf(address)).toEqual(source),
  );

  test.each([undefined, "", "unknown", "1.2.3", "1.2.3.4.5", "::ffff:1.2.3.400", "1:2:3"])(
    "the source of %p is undefined",
    (address) => expect(sourceOf(address)).toBeUndefined(),
  );

  test("the source of IPv6 addresses is their /64", () => {
    expect(sourceOf("2001:db8:0:1::1")).toEqual(sourceOf("2001:db8:0:1:ffff::9")!);
    expect(sourceOf("2001:db8:0:1::1")).not.toEqual(sourceOf("2001:db8:0:2::1")!);
  });
});

describe("address ranges", () => {
  test.each([
    ["10.0.0.0/8", "10.0.0.0", 8, "ipv4"],
    ["0.0.0.0/0", "0.0.0.0", 0, "ipv4"],
    ["10.1.2.3", "10.1.2.3", 32, "ipv4"],
    ["2001:db8::/32", "2001:db8::", 32, "ipv6"],
    ["::1", "::1", 128, "ipv6"],
    ["::/0", "::", 0, "ipv6"],
  ] as const)("the address range %p is parsed", (text, address, prefix, family) =>
    expect(parseRange(text)).toEqual({ address, prefix, family }),
  );

  test("an address range in any other form is refused", () => {
    const texts = [
      ...[
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0.0/ 8",
      ],
      ...[" 10.0.0.0", "10.0.0.0\0", "10.0.0/8", "10.0.0.0/8.0", "10.0.0.0/٣", "::/129", "::/1e2", "::1%lo"],
      ...[
        "fe80::%1/64",
        "::ffff:10.0.0.0/104",
        "::ffff:a00:0/104",
        "0:0:0:0:0:FFFF:10.0.0.1",
        "localhost",
        "*",
      ],
      ...[
        "9".repeat(100_000),
        undefined,
        null,
        8,
        true,
        {},
        [],
        ["10.0.0.0/8"],
        Symbol("::1"),
        Object.create(null),
      ],
    ];
    expect(texts.filter((text) => parseRange(text) !== undefined)).toEqual([]);
  });

  test.each([
    ["10.0.0.0/8", "10.255.0.1", "11.0.0.1"],
    ["10.9.9.9/8", "10.1.2.3", "9.255.255.255"],
    ["10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"],
    ["192.168.1.7", "192.168.1.7", "192.168.1.8"],
    ["0.0.0.0/0", "203.0.113.9", "2001:db8::1"],
    ["2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"],
    ["fe80::/10", "fe80::1%eth0", "fec0::1"],
    ["::/0", "2001:db8::1", "10.0.0.1"],
    ["::/0", "::1", "::ffff:10.0.0.1"],
  ])("the address range %p contains %p, and not %p", (range, inside, outside) => {
    const isIn = rangeList(["198.51.100.0/24", range]);
    expect([isIn(inside), isIn(outside)]).toEqual([true, false]);
  });

  test("an address range contains no unknown address, and an empty list contains none", () => {
    expect(rangeList([])("10.0.0.1")).toBe(false);
    expect(rangeList(["0.0.0.0/0", "::/0"])(undefined)).toBe(false);
    expect(rangeList(["0.0.0.0/0", "::/0"])("unknown")).toBe(false);
  });
});
