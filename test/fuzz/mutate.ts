// Random mutations of bytes and texts. The same seed gives the same mutation. Pure.

import type { Random } from "../support/random.ts";

const EDGES = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x16, 0x30, 0x31, 0x02, 0x05, 0xa0];

/** Returns a copy with a few changes. It may equal the input. */
export function mutateBytes(input: Uint8Array, random: Random): Buffer {
  let bytes: Buffer = Buffer.from(input);
  for (let changes = random.int(1, random.pick([1, 2, 8])); changes > 0; changes--) {
    bytes = changeBytes(bytes, random);
  }
  return bytes;
}

function changeBytes(bytes: Buffer, random: Random): Buffer {
  if (bytes.length === 0) return Buffer.from(random.bytes(random.int(1, 16)));
  const at = random.int(0, bytes.length - 1);
  const to = random.int(at, Math.min(bytes.length, at + random.pick([1, 4, 64])));
  const between = (middle: Uint8Array) => Buffer.concat([bytes.subarray(0, at), middle, bytes.subarray(to)]);
  switch (random.int(0, 7)) {
    case 0:
      bytes[at] = bytes[at]! ^ (1 << random.int(0, 7));
      return bytes;
    case 1:
      bytes[at] = random.pick(EDGES);
      return bytes;
    case 2:
      bytes[at] = bytes[at]! + random.pick([1, 0xff]);
      return bytes;
    case 3:
      return bytes.subarray(0, at);
    case 4:
      return between(new Uint8Array(0));
    case 5:
      return between(random.bytes(random.int(1, 32)));
    case 6: {
      const part = bytes.subarray(at, to);
      return between(Buffer.concat([part, part]));
    }
    default: {
      const from = random.int(0, bytes.length - 1);
      return between(bytes.subarray(from, from + random.int(1, 32)));
    }
  }
}

/** Pieces of configuration and PEM files, and texts that do not belong in them. */
const PIECES = [
  '"',
  "'",
  "\\",
  "\n",
  "\r\n",
  "\t",
  "\0",
  "[",
  "]",
  "[[",
  "]]",
  "{",
  "}",
  "=",
  ":",
  ",",
  "#",
  "-",
  "---",
  "&a",
  "*a",
  "<<: *a",
  "!!binary",
  "|",
  ">",
  "null",
  "true",
  "nan",
  "inf",
  "-1",
  "0",
  "1e999",
  "0x10",
  "1979-05-27T07:32:00Z",
  "😀",
  "\ud800",
  "\u202e",
  "\ufeff",
  "__proto__",
  "constructor",
  "toString",
  "9".repeat(400),
  "x".repeat(5_000),
  '"1s"',
  '"0s"',
  "-----BEGIN CERTIFICATE-----",
  "-----END CERTIFICATE-----",
  "-----BEGIN X509 CRL-----",
  "-----BEGIN PRIVATE KEY-----",
];

/** Returns a text with a few changes to characters, words and lines. */
export function mutateText(input: string, random: Random): string {
  let text = input;
  for (let changes = random.int(1, random.pick([1, 2, 6])); changes > 0; changes--) {
    text = changeText(text, random);
  }
  return text;
}

function changeText(text: string, random: Random): string {
  const lines = text.split("\n");
  const line = random.int(0, lines.length - 1);
  const at = random.int(0, text.length);
  switch (random.int(0, 7)) {
    case 0:
      return text.slice(0, at) + random.pick(PIECES) + text.slice(at);
    case 1:
      return text.slice(0, at) + text.slice(at + random.int(1, 12));
    case 2:
      return text.slice(0, at);
    case 3:
      return lines.toSpliced(line, 1).join("\n");
    case 4:
      return lines.toSpliced(random.int(0, lines.length), 0, lines[line]!).join("\n");
    case 5: {
      // Replaces a value by another value of the text, or by a piece.
      const values = [...text.matchAll(/"[^"\n]*"|\b\d+\b|\b(?:true|false)\b/g)];
      if (values.length === 0) return text;
      const [target, source] = [random.pick(values), random.pick(values)];
      const value = random.int(0, 1) === 0 ? source[0] : random.pick(PIECES);
      return text.slice(0, target.index) + value + text.slice(target.index + target[0].length);
    }
    case 6: {
      const [open, close] = random.pick([
        ["[", "]"],
        ["{", "}"],
        ['{"a":', "}"],
        ["- ", ""],
      ] as const);
      const deep = random.pick([3, 60, 2_000]);
      return text.slice(0, at) + open.repeat(deep) + close.repeat(random.int(0, deep)) + text.slice(at);
    }
    default:
      return mutateBytes(Buffer.from(text), random).toString(random.pick(["utf8", "latin1"]));
  }
}
