// Which addresses a listener lets in: a table, and random lists against a plain reading of the rule.

import { describe, expect, test } from "bun:test";
import { networkRule, placeOf, type Networks } from "../../src/auth/networks.ts";
import { Random } from "../support/random.ts";

type Case = [name: string, lists: Partial<Networks>, address: string, list: keyof Networks | undefined];

const inside = ["10.0.0.0/8", "2001:db8::/32"];
const CASES: Case[] = [
  ["a denied address", { deny: inside }, "10.1.2.3", "deny"],
  ["any other address", { deny: inside }, "11.1.2.3", undefined],
  ["a denied IPv6 address", { deny: inside }, "2001:db8::1", "deny"],
  ["any other IPv6 address", { deny: inside }, "2001:db9::1", undefined],
  ["an allowed address", { allow: inside }, "10.255.255.255", undefined],
  ["an address that no list has", { allow: inside }, "192.0.2.1", "allow"],
  ["an allowed IPv6 address", { allow: inside }, "2001:db8:ffff::", undefined],
  ["an IPv6 address that no list has", { allow: inside }, "::1", "allow"],
  ["an address in both lists", { allow: inside, deny: ["10.6.0.0/16"] }, "10.6.0.1", "deny"],
  ["an address in neither list", { allow: inside, deny: ["10.6.0.0/16"] }, "9.6.0.1", "allow"],
  ["an IPv4 address on an IPv6 socket", { deny: inside }, "::ffff:10.0.0.1", "deny"],
  ["an IPv4 address, where all IPv6 is allowed", { allow: ["::/0"] }, "10.0.0.1", "allow"],
  [
    "an IPv4 address on an IPv6 socket, where all IPv6 is allowed",
    { allow: ["::/0"] },
    "::ffff:10.0.0.1",
    "allow",
  ],
  ["an IPv6 address, where all IPv4 is denied", { deny: ["0.0.0.0/0"] }, "2001:db8::1", undefined],
  ["every IPv4 address, where all are denied", { deny: ["0.0.0.0/0"] }, "203.0.113.9", "deny"],
  ["an address with a zone", { deny: ["fe80::/10"] }, "fe80::1%eth0", "deny"],
  ["a single address", { allow: ["192.0.2.7"] }, "192.0.2.7", undefined],
  ["the neighbour of a single address", { allow: ["192.0.2.7"] }, "192.0.2.8", "allow"],
  ["text that is no address, beside an allow", { allow: inside }, "unknown", "allow"],
];

describe("a listener's networks", () => {
  test.each(CASES)("judge %s", (_, { allow, deny }, address, list) => {
    expect(networkRule({ allow, deny })?.(address)).toBe(list);
  });

  test("cost nothing where there is no list", () => {
    expect(networkRule({ allow: undefined, deny: undefined })).toBeUndefined();
  });

  test("let in nobody without an address where there is an allow", () => {
    expect(networkRule({ allow: inside, deny: undefined })?.(undefined)).toBe("allow");
  });

  test("name the first range that has an address", () => {
    expect(placeOf("10.6.0.1", ["11.0.0.0/8", "10.6.0.0/16", "10.0.0.0/8"])).toBe(1);
    expect(placeOf("12.0.0.1", ["11.0.0.0/8"])).toBe(-1);
  });

  test.each([1, 2, 3, 4])("agree with a plain reading of random lists (seed %i)", (seed) => {
    const random = new Random(seed);
    const below = (most: number) => Math.floor(random.next() * most);
    const word = () => [10, below(2), below(4), below(256)];
    const text = (parts: number[]) => parts.join(".");
    const bits = (parts: number[]) => parts.map((part) => part.toString(2).padStart(8, "0")).join("");
    for (let i = 0; i < 300; i++) {
      const make = () =>
        Array.from({ length: 1 + below(4) }, () => ({ parts: word(), prefix: 8 + below(25) }));
      const lists = { allow: below(3) ? make() : undefined, deny: below(3) ? make() : undefined };
      const written = (list: ReturnType<typeof make> | undefined) =>
        list?.map(({ parts, prefix }) => `${text(parts)}/${prefix}`);
      const address = word();
      const has = (list: ReturnType<typeof make> | undefined) =>
        list?.some(({ parts, prefix }) => bits(parts).slice(0, prefix) === bits(address).slice(0, prefix));
      const expected = has(lists.deny) ? "deny" : lists.allow && !has(lists.allow) ? "allow" : undefined;
      const rule = networkRule({ allow: written(lists.allow), deny: written(lists.deny) });
      expect(rule?.(text(address))).toBe(expected);
    }
  });
});
