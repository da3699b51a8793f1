// PEM files: a damaged block is an error, as TLS would skip it without a word.

import { describe, expect, test } from "bun:test";
import { readPem } from "../../src/auth/pem.ts";
import { cert } from "../support/peer.ts";

const one = cert("ca.crt").trim();
const two = cert("ca2.crt").trim();

describe("readPem", () => {
  test("a PEM text has its blocks, and the lines on which they begin", () => {
    const { blocks, damage } = readPem(`Some CA:\n${one}\n\n# another -----\n---\n${two}\n`);
    expect(damage).toBeUndefined();
    const second = one.split("\n").length + 5;
    expect(blocks.map(({ label, line }) => [label, line])).toEqual([
      ["CERTIFICATE", 2],
      ["CERTIFICATE", second],
    ]);
    expect(blocks.map(({ pem }) => pem)).toEqual([one, two]);
  });

  test("a PEM text may have Windows line ends", () => {
    const { blocks, damage } = readPem(`${one}\n${two}\n`.replaceAll("\n", "\r\n"));
    expect(damage).toBeUndefined();
    expect(blocks.map(({ der }) => der)).toEqual(readPem(`${one}\n${two}`).blocks.map(({ der }) => der));
  });

  test("a PEM text without blocks has no damage", () => {
    expect(readPem("")).toEqual({ blocks: [], damage: undefined });
    expect(readPem("text\n")).toEqual({ blocks: [], damage: undefined });
  });

  test("a PEM text that is cut short anywhere within a block is damaged", () => {
    const text = `${one}\n${two}`;
    for (let length = one.length + 2; length < text.length; length++) {
      expect([length, readPem(text.slice(0, length)).damage === undefined]).toEqual([length, false]);
    }
  });

  test("a PEM text whose beginning is missing is damaged, wherever it begins", () => {
    for (let from = 1; from < one.lastIndexOf("\n"); from += 7) {
      expect(readPem(`${one.slice(from)}\n${two}\n`).damage).toBeDefined();
    }
  });

  const first = one.split("\n");
  test.each<[string, string, number, RegExp]>([
    ["without an end", `${first.slice(0, -1).join("\n")}\n${two}\n`, 1, /no "END" before the next/],
    ["without a beginning", `${one}\n${two.split("\n").slice(1).join("\n")}\n`, 0, /has no "BEGIN"/],
    [
      "with another end",
      `${one.replace("END CERTIFICATE", "END X509 CRL")}\n`,
      first.length,
      /ends what began/,
    ],
    ["with half a boundary", `text\n-----BEGIN CERT\n`, 2, /neither/],
    ["with two boundaries on a line", `${one}${two}\n`, first.length, /neither/],
    ["with a boundary that is indented", `text\n  ${one}\n`, 2, /does not begin its line/],
    ["with the beginning of a boundary at its end", `${one}\n---`, first.length + 1, /cut short/],
  ])("a PEM text %s is damaged", (_, text, line, problem) => {
    const { damage } = readPem(text);
    expect(damage?.problem).toMatch(problem);
    if (line > 0) expect(damage?.line).toBe(line);
  });
});
