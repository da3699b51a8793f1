// The help's topics are Markdown, set for a terminal of 80 columns.

import { expect, test } from "bun:test";
import { reflow } from "../../src/cli/reflow.ts";

const lines = (...all: string[]) => all.join("\n");
const words = (count: number) => Array<string>(count).fill("word").join(" ");
const X = "x".repeat(40);

test.each<[string, string, string]>([
  ["an empty text stays empty", "", ""],
  ["the lines of a paragraph are joined", "some text\ngoes on", "some text goes on"],
  ["a paragraph is wrapped", words(20), lines(words(16), words(4))],
  ["empty lines part paragraphs", "one\n\ntwo", "one\n\ntwo"],
  ["a heading stays alone", "text\n# Title\nmore\ntext", "text\n# Title\nmore text"],
  ["entries of a list stay apart", "- one\n  more\n- two\n* three", "- one more\n- two\n* three"],
  ["an entry is wrapped below its text", `- ${words(20)}`, lines(`- ${words(15)}`, `  ${words(5)}`)],
  ["a numbered entry is too", `12. ${words(20)}`, lines(`12. ${words(15)}`, `    ${words(5)}`)],
  ["an entry within an entry keeps its indent", "- one\n  - two\n    more", "- one\n  - two more"],
  ["a paragraph keeps its indent", `   ${words(20)}`, lines(`   ${words(15)}`, `   ${words(5)}`)],
  [
    "code stays as it is, however wide",
    lines("text", "```sh", `a   b ${X}${X}`, "", "- c", "| d |", "# e", "```", "text"),
    lines("text", "```sh", `a   b ${X}${X}`, "", "- c", "| d |", "# e", "```", "text"),
  ],
  [
    "a table that fits stays as it is",
    "text\n| a | b |\n| - | - |\n| 1 | 2 |\nafter",
    "text\n| a | b |\n| - | - |\n| 1 | 2 |\nafter",
  ],
  [
    "a wide table of two columns becomes names and texts",
    lines("| key | meaning |", "| --- | --- |", `| \`a\` | ${X} ${X} |`, "| `bc` | short |"),
    lines(`  \`a\`   ${X}`, `        ${X}`, "  `bc`  short"),
  ],
  [
    "a wide table of more columns becomes a list of its rows",
    lines("| key | type | meaning |", "| --- | --- | --- |", `| \`a\` | number | ${X} ${X} |`),
    lines("  `a`", "    type:    number", `    meaning: ${X}`, `             ${X}`),
  ],
  [
    "a bar within a cell is no end of it",
    lines("| key | meaning |", "| --- | --- |", `| a \\| b | ${X}${X} |`),
    lines(`  a | b  ${X}${X}`),
  ],
  [
    "a cell that is empty leaves its name",
    lines("| key | type | meaning |", "| --- | --- | --- |", `| a | | ${X}${X} |`),
    lines("  a", "    type:", `    meaning: ${X}${X}`),
  ],
])("%s", (_, markdown, text) => {
  expect(reflow(markdown)).toBe(text);
});
