// What the command line's help and summary are set in: wrapped text and two columns.

import { describe, expect, test } from "bun:test";
import { NO_BREAK_SPACE, WIDTH, columns, widthFor, wrap } from "../../src/cli/columns.ts";

test.each([
  ["", [""]],
  ["one two three", ["one two", "three"]],
  ["one two3 four", ["one", "two3", "four"]],
  ["longerthanaline x", ["longerthanaline", "x"]],
  ["one\n\ntwo", ["one", "", "two"]],
  [`a${NO_BREAK_SPACE}b${NO_BREAK_SPACE}c${NO_BREAK_SPACE}d e`, ["a b c d", "e"]],
  [`one [a:${NO_BREAK_SPACE}5]`, ["one", "[a: 5]"]],
])("the text %j is wrapped at 7 characters as %j", (text, lines) => {
  expect(wrap(text, 7)).toEqual(lines);
});

describe("two columns", () => {
  test.each<[string, [string, string], string[]]>([
    ["stand beside each other", ["a", "text"], ["  a     text"]],
    ["hold a name that just fits", ["1234", "text"], ["  1234  text"]],
    ["keep one space behind a name", ["12345", "text"], ["  12345 text"]],
    ["put a text below a name that is too wide", ["123456", "text"], ["  123456", "        text"]],
    ["have no trailing spaces", ["a", ""], ["  a"]],
    [
      "wrap the text beside the name",
      ["a", "x".repeat(72) + " y"],
      [`  a     ${"x".repeat(72)}`, "        y"],
    ],
  ])("%s", (_, row, lines) => {
    expect(columns([row], 8)).toEqual(lines);
  });

  test("are indented as far as is asked", () => {
    expect(columns([["a", "text"]], 8, 4)).toEqual(["    a   text"]);
  });

  test("fit the width of every terminal, for any name that leaves room for a word", () => {
    const text = "word ".repeat(60).trim();
    for (let length = 1; length < 60; length++) {
      const names = ["a", "n".repeat(length)];
      const lines = columns(
        names.map((name) => [name, text] as const),
        widthFor(names),
      );
      expect(lines.filter((line) => line.length > WIDTH)).toEqual([]);
      expect(lines.join(" ").match(/word/g)).toHaveLength(120);
    }
  });
});

test.each([
  [[], 2, 4],
  [["a", "four"], 2, 8],
  [["a", "four"], 4, 10],
])("the first column of %j, indented by %i, is %i wide", (names, indent, width) => {
  expect(widthFor(names, indent)).toBe(width);
});
