// The architecture as a test: a file imports from its own room and from rows below, and few files use the system directly.

import { expect, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";

const SRC = `${import.meta.dir}/../../src`;

/** Top to bottom: a room, or a file at the root, imports from itself and from rows below its own. */
const ROWS: readonly (readonly string[])[] = [
  ["main.ts", "index.ts"],
  ["cli"],
  ["proxy.ts", "worker.ts", "tunnel"],
  ["api.ts"],
  ["admin"],
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

/** Paths of imports, including those of types: they are dependencies for a reader too. */
function importsOf(name: string): string[] {
  return [...source.get(name)!.matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)].map(([, path]) => path!);
}

/** The files of this tree that a file imports. */
function neighboursOf(name: string): string[] {
  return importsOf(name)
    .filter((path) => path.startsWith("."))
    .map((path) => new URL(path, `file:///${name}`).pathname.slice(1))
    .filter((path) => path.endsWith(".ts"));
}

test("every source file is in a room", () => {
  expect(files.filter((name) => rowOf(name) === -1)).toEqual([]);
  expect(ROWS.flat().filter((room) => !files.some((name) => roomOf(name) === room))).toEqual([]);
});

test("imports lead to lower rows only", () => {
  const upward = files.flatMap((name) =>
    neighboursOf(name)
      .filter((path) => roomOf(path) !== roomOf(name) && rowOf(path) <= rowOf(name))
      .map((path) => `${name} imports ${path}`),
  );
  expect(upward).toEqual([]);
});

test("imports have no cycles", () => {
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
    "Bun.listen is called for clients, to claim and probe their ports, for the echo servers and for programs that use a tunnel",
    /\bBun\.listen\b/,
    ["cli/echo.ts", "listeners/claim.ts", "listeners/listener.ts", "tunnel/listen.ts"],
  ],
  [
    "process.exit, abort and kill are called by the command line only",
    /\bprocess\.(exit|abort|kill)\b/,
    ["main.ts"],
  ],
  ["signals are handled by the command line only", /\bprocess\.on\(/, ["cli/signals.ts"]],
  [
    "node:fs is imported by the files that load, watch and log only",
    /"node:fs"/,
    [
      "admin/socket-path.ts",
      "config/file.ts",
      "config/pem-files.ts",
      "config/watch.ts",
      "lib/process-usage.ts",
      "lib/stderr.ts",
      "tunnel/listen.ts",
      "tunnel/stdio.ts",
    ],
  ],
  ["bun:ffi is imported in one place", /"bun:ffi"/, ["lib/libc.ts"]],
  ["threads are started by the worker pool only", /\bnew Worker\(/, ["engine/worker-pool.ts"]],
  [
    "the runtime's language tables, which take 2 MiB, are loaded by commands that print for people only",
    /\bIntl\b|toLocale|localeCompare/,
    ["cli/human.ts"],
  ],
  [
    "citty and consola are imported in one place each",
    /"(citty|consola[^"]*)"/,
    ["cli/flags.ts", "lib/log.ts"],
  ],
])("%s", (_, pattern, expected) => {
  const without = (text: string) => text.replace(/^\s*(\/\/|\*|\/\*).*$/gm, "");
  expect(files.filter((name) => pattern.test(without(source.get(name)!))).sort()).toEqual(expected);
});

test("the tunnel shares the relay and the dial with the proxy, and none of its decisions", () => {
  const rooms = ["connection", "upstreams", "listeners", "engine", "state"];
  const shared = files
    .filter((name) => roomOf(name) === "tunnel")
    .flatMap(neighboursOf)
    .filter((path) => rooms.includes(roomOf(path)));
  expect([...new Set(shared)].sort()).toEqual(["connection/relay.ts", "upstreams/dial.ts"]);
});

/** All that is loaded with a file; what is imported by a call is loaded later, or never. */
function loadedWith(name: string, all = new Set<string>()): Set<string> {
  all.add(name);
  for (const [, path] of source.get(name)!.matchAll(/^(?:import|export)\s(?!type\b)[^;]*?"(\.[^"]+)"/gm)) {
    const next = new URL(path!, `file:///${name}`).pathname.slice(1);
    if (!all.has(next)) next.endsWith(".ts") ? loadedWith(next, all) : all.add(next);
  }
  return all;
}

test("the proxy is loaded without what other commands print", () => {
  const own = ["apply-flags", "command", "dispatch", "flags", "open", "run", "signals"].map(
    (name) => `cli/${name}.ts`,
  );
  const loaded = [...loadedWith("main.ts")];
  expect(loaded).toContain("proxy.ts");
  expect(loaded.filter((name) => name.startsWith("cli/")).sort()).toEqual(own);
  const printed = ["help", "json-schema", "reference", "reference-types", "rows"].map(
    (name) => `config/${name}.ts`,
  );
  expect(loaded.filter((name) => printed.includes(name) || name.endsWith(".md"))).toEqual([]);
});

test("a worker thread is loaded without what reads a configuration", () => {
  const loaded = [...loadedWith("worker.ts")];
  expect(loaded).toContain("connection/connection.ts");
  expect(loaded.filter((name) => /^(cli|config)\//.test(name))).toEqual([]);
});

test("state uses no clock, no randomness and no runtime", () => {
  for (const name of files.filter((each) => each.startsWith("state/"))) {
    expect(source.get(name)).not.toMatch(
      /Date|performance|Math\.random|\bBun\b|process|setTimeout|setInterval/,
    );
  }
});
