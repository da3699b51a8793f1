// Keys that are given twice are refused, wherever they are and however they are written; other texts pass.

import { expect, test } from "bun:test";
import { DuplicateError, refuseDuplicates } from "../../src/config/duplicates.ts";
import { Random } from "../support/random.ts";

const PARSERS = { yaml: Bun.YAML.parse, json: (text: string): unknown => JSON.parse(text) };

/** The error for a text; undefined where it passes. */
function saidOf(language: keyof typeof PARSERS, text: string): string | undefined {
  const parse = PARSERS[language];
  try {
    refuseDuplicates(text, parse, parse(text));
    return undefined;
  } catch (error) {
    if (!(error instanceof DuplicateError)) throw error;
    return error.message;
  }
}

test.each<[keyof typeof PARSERS, string, string]>([
  ["yaml", "a: 1\na: 2", 'line 2: "a" is given twice'],
  ["yaml", "a: 1\nb: 1\n\n# and\na: 2", 'line 5: "a" is given twice'],
  ["yaml", "a : 1\na: 2", 'line 2: "a" is given twice'],
  ["yaml", "a:\r\n  b: 1\r\n  b: 2\r\n", 'line 3: "b" is given twice'],
  ["yaml", "a:\n- b: 1\n  c: 2\n- b: 1\n  b: 2\n", 'line 5: "b" is given twice'],
  ["yaml", "{a: 1, a: 2}", 'line 1: "a" is given twice'],
  ["yaml", "x: {a: [1, {b: 1, b: 2}]}", 'line 1: "b" is given twice'],
  ["yaml", '{"a":1,"a":":5000"}', 'line 1: "a" is given twice'],
  ["yaml", "'a': 1\n\"a\" : 2", 'line 2: "a" is given twice'],
  ["yaml", '"\\u0061": 1\na: 2', 'line 2: "a" is given twice'],
  ["yaml", "? a\n: 1\n? a\n: 2", 'line 4: "a" is given twice'],
  ["yaml", "a: 1\n? a\n: 2", 'line 3: "a" is given twice'],
  ["yaml", "&x a: 1\n&y a: 2", 'line 2: "a" is given twice'],
  ["yaml", "!!str a: 1\na: 2", 'line 2: "a" is given twice'],
  ["yaml", "a: >-\n  b: c\n  b: e\nb: 1\na: 3", 'line 5: "a" is given twice'],
  ["yaml", "x: &b {c: 1, c: 2}\ny:\n  <<: *b", 'line 1: "c" is given twice'],
  ["yaml", "y:\n  <<: {c: 1, c: 2}\n", 'line 2: "c" is given twice'],
  ["yaml", "y:\n  <<: {c: 1}\n  <<: {d: 1}", 'line 3: "<<" is given twice'],
  ["yaml", "__proto__: 1\n__proto__: 2", 'line 2: "__proto__" is given twice'],
  ["json", '{"a":1,"a":2}', 'line 1: "a" is given twice'],
  ["json", '{\n"a":1,\n"\\u0061"\n:\n2}', 'line 4: "a" is given twice'],
  ["json", '{"x":[{"y":1,"z":{"y":1,"y":1}}]}', 'line 1: "y" is given twice'],
  ["json", '{"__proto__":1,"__proto__":2}', 'line 1: "__proto__" is given twice'],
])("refuseDuplicates refuses, in %s, %j: %s", (language, text, said) => {
  expect(saidOf(language, text)).toBe(said);
});

test.each<[keyof typeof PARSERS, string]>([
  ["yaml", "{a, a: 1}"],
  ["yaml", "{a, a}"],
  ["yaml", "? a\n? a\n"],
  ["yaml", "[a]: 1\n[a]: 2"],
  ["yaml", "&k a: 1\n*k : 2"],
  ["yaml", '"a\\"": 1\n"a\\"": 2'],
  ["yaml", "~: 1\nnull: 2"],
  ["json", '{"a\\\\":1,"a\\\\":2}'],
])(
  "refuseDuplicates refuses, in %s, %j, where it cannot tell whether a key is given twice",
  (language, text) => {
    expect(saidOf(language, text)).toMatch(/could hide a duplicate key|given twice/);
  },
);

test.each<[keyof typeof PARSERS, string]>([
  ["yaml", ""],
  ["yaml", "a: 1\nb: {a: 1}\nc:\n  - a: 1\n  - a: 2"],
  ["yaml", 'address: ":5000"\nb: :5000\nc: ["[::1]:80", \'a:1\', unix:/run/x.sock]'],
  ["yaml", '{"address":":5000","b":[":1",":2"]}'],
  ["yaml", "a: |\n  b: c\n  b: e\nb: >-\n  x: y\n  x: y\n"],
  ["yaml", '# a: b\n# a: "x": 2\na: 1 # it\'s "a": b\n'],
  ["yaml", 'a: \'it\'\'s "x": y\'\nb: "say \\"x\\": y"\nc: \': \'\nd: "x: "'],
  ["yaml", "x: &b {c: 1, d: 2}\ny:\n  <<: *b\n  c: 3\nz:\n  - *b\n  - *b"],
  ["yaml", "%YAML 1.2\n---\na: 1\n"],
  ["json", "null"],
  ["json", '{"a":"\\"b\\": c","c":"x\\\\","d" : [":5000", "a:1", ",:", "\\":"]}'],
  ["json", '{"a":"b:","c":"d: ","e":": f","g":{"a":{"a":1}}}'],
])("refuseDuplicates accepts, in %s, %j", (language, text) => {
  expect(saidOf(language, text)).toBeUndefined();
});

test("refuseDuplicates refuses a text with the private characters that it uses as marks", () => {
  expect(saidOf("yaml", "a: \uE000")).toMatch(/private-use/);
});

test("refuseDuplicates accepts random tables in every notation, until one of their keys is repeated", () => {
  const texts = [
    ":5000",
    "[::1]:80",
    "a: b",
    'say "x": y',
    "it's",
    "{a: 1}",
    "# x",
    "- y",
    "unix:/run/s",
    "",
    "no",
  ];
  for (let seed = 1; seed <= 300; seed++) {
    const random = new Random(seed);
    const pick = <T>(all: readonly T[]): T => all[random.int(0, all.length - 1)] as T;
    const value = (depth: number): unknown => {
      const kind = random.int(0, depth > 2 ? 1 : 3);
      if (kind === 0) return random.int(0, 100);
      if (kind === 1) return pick(texts);
      const all = Array.from({ length: random.int(1, 4) }, () => value(depth + 1));
      return kind === 2 ? all : Object.fromEntries(all.map((each, i) => [`key${i}`, each]));
    };
    const table = { first: value(0), second: value(0), third: { fourth: value(1), fifth: value(1) } };
    const again = `seed ${seed}: ${JSON.stringify(table)}`;
    const block = Bun.YAML.stringify(table, null, 2);
    for (const [language, text] of [
      ["yaml", block],
      ["yaml", Bun.YAML.stringify(table)],
      ["yaml", JSON.stringify(table)],
      ["json", JSON.stringify(table)],
      ["json", JSON.stringify(table, null, 2)],
    ] as const) {
      expect(saidOf(language, text), again).toBeUndefined();
    }
    const key = pick(["first", "second", "third"]);
    expect(saidOf("yaml", `${block}\n${key}: ${JSON.stringify(value(2))}\n`), again).toMatch(
      /"\w+" is given twice/,
    );
    const json = JSON.stringify(table).replace(
      /}}$/,
      `,"${pick(["fourth", "fifth"])}":${JSON.stringify(value(2))}}}`,
    );
    expect(saidOf("json", json), again).toMatch(/"fi?f?o?u?r?t?h" is given twice/);
    expect(saidOf("yaml", json), again).toMatch(/"fi?f?o?u?r?t?h" is given twice/);
  }
});
