// What an operator may write for a block, and for whom a block holds.

import { describe, expect, test } from "bun:test";
import { Blocks, parseSubject, type Block } from "../../src/auth/blocks.ts";

const DIGITS = "ab".repeat(32);

describe("the subject of a block", () => {
  test.each([
    ["alice@dba", "client", "alice@dba"],
    ["*@dba", "group", "*@dba"],
    [`sha256:${DIGITS}`, "certificate", `sha256:${DIGITS}`],
    [`SHA256:${"AB:".repeat(31)}AB`, "certificate", `sha256:${DIGITS}`],
    ["10.0.0.0/8", "network", "10.0.0.0/8"],
    ["192.0.2.1", "network", "192.0.2.1/32"],
    ["2001:db8::/32", "network", "2001:db8::/32"],
  ] as const)("is read from %s as a %s", (text, kind, subject) => {
    expect(parseSubject(text)).toEqual({ kind, subject });
  });

  test.each([
    "",
    "alice",
    "alice@",
    "@dba",
    "a@b@c",
    "al*@dba",
    "*@*",
    "a b@c",
    "10.0.0.0/33",
    "10.0.0",
    "sha256:",
    `sha256:${DIGITS}ab`,
    "sha256:xyz",
    "::ffff:10.0.0.1",
  ])("cannot be %j", (text) => expect(parseSubject(text)).toBeUndefined());
});

describe("a block holds", () => {
  const block = (text: string, until?: number): Block => ({
    ...parseSubject(text)!,
    reason: "",
    actor: "",
    since: 0,
    until,
  });
  const suspect = {
    client: "alice@dba",
    address: "::ffff:10.1.2.3",
    fingerprint: () => DIGITS.toUpperCase(),
  };

  test.each([
    ["alice@dba", true],
    ["bob@dba", false],
    ["alice@DBA", false],
    ["*@dba", true],
    ["*@db", false],
    [`sha256:${DIGITS}`, true],
    [`sha256:${"cd".repeat(32)}`, false],
    ["10.1.0.0/16", true],
    ["10.2.0.0/16", false],
    ["::/0", false],
  ])("for alice@dba from 10.1.2.3, where it is for %s: %p", (text, holds) => {
    expect(new Blocks([block(text)]).find(suspect, 0) !== undefined).toBe(holds);
  });

  test("until its end, by the calendar", () => {
    const blocks = new Blocks([block("*@dba", 1_000)]);
    expect(blocks.find(suspect, 999)).toBeDefined();
    expect(blocks.find(suspect, 1_000)).toBeUndefined();
  });

  test("without a look at the certificate where none is blocked", () => {
    const fingerprint = () => {
      throw new Error("asked");
    };
    expect(new Blocks([block("bob@dba")]).find({ ...suspect, fingerprint }, 0)).toBeUndefined();
  });
});
