// The architecture as a test: a file imports from its own room and from rows below, and the runtime's doors have one keeper each.

import { expect, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";

const SRC = `${import.meta.dir}/../../src`;

/** Top to bottom: a room, or a file at the root, imports from itself and from rows below its own. */
const ROWS: readonly (readonly string[])[] = [
  ["main.ts", "index.ts"],
  ["cli"],
  ["proxy.ts", "worker.ts"],
  ["api.ts"],
  ["engine"],
  ["fleet"],
  ["listeners", "connection"],
  ["upstreams"],
  ["config"],
  ["auth"],
  ["lib"],
  ["state"],
];

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
const source = new Map(files.map((name) => [name, readFileSync(`${SRC}/${name}`, "utf8")]));

function roomOf(name: string): string {
  return name.split("/")[0]!;
}

function rowOf(name: string): number {
  return ROWS.findIndex((row) => row.includes(roomOf(name)));
}

/** Paths of imports, those of types included: a newcomer follows them all the same. */
function importsOf(name: string): string[] {
  return [...source.get(name)!.matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)].map(([, path]) => path!);
}

/** What a file imports of this tree. */
function neighboursOf(name: string): string[] {
  return importsOf(name)
    .filter((path) => path.startsWith("."))
    .map((path) => new URL(path, `file:///${name}`).pathname.slice(1))
    .filter((path) => path.endsWith(".ts"));
}

test("every file is in a room", () => {
  expect(files.filter((name) => rowOf(name) === -1)).toEqual([]);
  expect(ROWS.flat().filter((room) => !files.some((name) => roomOf(name) === room))).toEqual([]);
});

test("imports go down only", () => {
  const upward = files.flatMap((name) =>
    neighboursOf(name)
      .filter((path) => roomOf(path) !== roomOf(name) && rowOf(path) <= rowOf(name))
      .map((path) => `${name} imports ${path}`),
  );
  expect(upward).toEqual([]);
});

test("no import leads back to where it started", () => {
  const done = new Set<string>();
  const walk = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) throw new Error([...path, name].join(" imports "));
    if (done.has(name)) return;
    for (const next of neighboursOf(name)) walk(next, [...path, name]);
    done.add(name);
  };
  for (const name of files) walk(name, []);
});

test.each<[string, RegExp, string[]]>([
  ["Bun.connect is called in one place", /\bBun\.connect\b/, ["upstreams/dial.ts"]],
  [
    "Bun.listen is called for clients and for the echo servers",
    /\bBun\.listen\b/,
    ["cli/echo.ts", "listeners/listener.ts"],
  ],
  ["only the command line ends the process", /\bprocess\.(exit|abort|kill)\b/, ["main.ts"]],
  ["only the command line listens to signals", /\bprocess\.on\(/, ["cli/signals.ts"]],
  [
    "only these touch the file system",
    /"node:fs"/,
    ["config/file.ts", "config/pem-files.ts", "config/watch.ts", "lib/stderr.ts"],
  ],
  ["only one calls into the C library", /"bun:ffi"/, ["lib/libc.ts"]],
  ["threads are started in one place", /\bnew Worker\(/, ["engine/worker-pool.ts"]],
  ["only these know the packages", /"(citty|consola[^"]*)"/, ["cli/flags.ts", "lib/log.ts"]],
])("%s", (_, pattern, expected) => {
  const without = (text: string) => text.replace(/^\s*(\/\/|\*|\/\*).*$/gm, "");
  expect(files.filter((name) => pattern.test(without(source.get(name)!))).sort()).toEqual(expected);
});

test("state has no clock, no randomness and no runtime of its own", () => {
  for (const name of files.filter((each) => each.startsWith("state/"))) {
    expect(source.get(name)).not.toMatch(
      /Date|performance|Math\.random|\bBun\b|process|setTimeout|setInterval/,
    );
  }
});
