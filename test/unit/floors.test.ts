// The architecture as a test: a file imports only from floors below its own, and the runtime's doors have one keeper each.

import { expect, test } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";

const SRC = `${import.meta.dir}/../../src`;

/** Top to bottom; files of one floor do not import each other. */
const FLOORS: readonly (readonly string[])[] = [
  ["main.ts", "index.ts"],
  ["proxy.ts"],
  ["crew.ts", "worker.ts"],
  ["messages.ts", "engine.ts", "flags.ts"],
  ["connection.ts", "settings.ts", "health-check.ts"],
  ["health-log.ts", "refusal-log.ts"],
  ["admission.ts", "listener.ts"],
  ["summary.ts"],
  ["expiry.ts"],
  ["dial.ts", "log.ts", "config-file.ts", "credentials.ts", "echo.ts", "names.ts", "watch.ts"],
  ["resolve-config.ts", "changes.ts"],
  ["config.ts", "reader.ts"],
  ["trust.ts", "proxy-protocol.ts", "stderr.ts", "claims.ts", "source.ts"],
  ["revocation.ts"],
  ["certificate.ts"],
  ["name-constraints.ts", "signature.ts"],
  [
    "identity.ts",
    "backlog.ts",
    "handshake.ts",
    "clock.ts",
    "address.ts",
    "duration.ts",
    "relay.ts",
    "handshake-queue.ts",
    "tarpit.ts",
    "descriptors.ts",
    "der.ts",
    "pem.ts",
    "portions.ts",
    "server-name.ts",
    "handover.ts",
    "duplicates.ts",
    "reminder.ts",
  ],
  ["socket-meter.ts"],
  ["libc.ts"],
  ["state/limits.ts", "state/balancer.ts", "state/sources.ts"],
  ["state/slots.ts"],
  ["state/health.ts"],
  ["state/ledger.ts"],
  ["state/client-table.ts", "state/source-table.ts", "state/lock.ts"],
  ["state/tally.ts"],
  ["state/memory.ts", "state/token-bucket.ts"],
  ["errors.ts"],
];

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
const source = new Map(files.map((name) => [name, readFileSync(`${SRC}/${name}`, "utf8")]));

function floorOf(name: string): number {
  return FLOORS.findIndex((floor) => floor.includes(name));
}

/** Paths of imports, those of types included: a newcomer follows them all the same. */
function importsOf(name: string): string[] {
  return [...source.get(name)!.matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)].map(([, path]) => path!);
}

test("every file has its floor", () => {
  expect(files.filter((name) => floorOf(name) === -1)).toEqual([]);
  expect(FLOORS.flat().filter((name) => !files.includes(name))).toEqual([]);
});

test("imports go down only", () => {
  const upward = files.flatMap((name) =>
    importsOf(name)
      .filter((path) => path.startsWith("."))
      .map((path) => new URL(path, `file:///${name}`).pathname.slice(1))
      .filter((path) => path.endsWith(".ts") && floorOf(path) <= floorOf(name))
      .map((path) => `${name} imports ${path}`),
  );
  expect(upward).toEqual([]);
});

test.each<[string, RegExp, string[]]>([
  ["Bun.connect is called in one place", /\bBun\.connect\b/, ["dial.ts"]],
  [
    "Bun.listen is called for clients and for the echo servers",
    /\bBun\.listen\b/,
    ["echo.ts", "listener.ts"],
  ],
  ["only the command line ends the process", /\bprocess\.(exit|abort|kill)\b/, ["main.ts"]],
  ["only the command line listens to signals", /\bprocess\.on\(/, ["main.ts"]],
  [
    "only these touch the file system",
    /"node:fs"/,
    ["config-file.ts", "credentials.ts", "stderr.ts", "watch.ts"],
  ],
  ["only one calls into the C library", /"bun:ffi"/, ["libc.ts"]],
  ["threads are started in one place", /\bnew Worker\(/, ["crew.ts"]],
  ["only these know the packages", /"(citty|consola[^"]*)"/, ["flags.ts", "log.ts", "main.ts"]],
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
