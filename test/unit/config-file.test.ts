// A configuration file's errors name the line each time that it is read, and keys that are given twice are faults.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { readConfigFile } from "../../src/config/file.ts";

let folder: string;
beforeAll(() => void (folder = mkdtempSync(`${tmpdir()}/tcpproxy-file-`)));
afterAll(() => rmSync(folder, { recursive: true }));

/** The error for a text, or undefined where it can be read. */
async function saidOf(extension: string, text: string): Promise<string | undefined> {
  const path = `${folder}/config.${extension}`;
  writeFileSync(path, text);
  return readConfigFile(path).then(
    () => undefined,
    (error: Error) => error.message,
  );
}

test.each([
  ["toml", 'timeout = "1m"\n', "timeout = = 1\n", "\n\n\n[[[\n"],
  ["yaml", "timeout: 1m\n", "timeout: [\n", "\n\n\ntimeout: {\n"],
  ["json", "{}", '{\n "timeout" 1}', '\n\n\n\n{ "timeout": }'],
])(
  "a configuration file in %s that is broken, mended and broken again has its line named each time",
  async (extension, good, bad, worse) => {
    expect(await saidOf(extension, bad)).toMatch(/config\.\w+: line [12], column \d+: /);
    expect(await saidOf(extension, good)).toBeUndefined();
    expect(await saidOf(extension, worse)).toMatch(/config\.\w+: line [45], column \d+: /);
  },
);

test("a configuration file in json with a comment does not hide the lines of later faults", async () => {
  // Bun's module loader, which finds the line of a fault, accepts comments in JSON and caches what it has read.
  expect(await saidOf("json", "{\n // a comment\n}")).toMatch(/config\.json: .*Unrecognized token/);
  expect(await saidOf("json", '{\n\n "timeout" 1}')).toMatch(/config\.json: line 3, column \d+: /);
});

test.each([
  ["toml", 'timeout = "1m"\ntimeout = "2m"\n'],
  ["toml", '[rateLimit]\ncapacity = 1\nfillRate = "1s"\ncapacity = 2\n'],
  ["yaml", "timeout: 1m\ntimeout: 2m\n"],
  ["yml", "rateLimit:\n  capacity: 1\n  fillRate: 1s\n  capacity: 2\n"],
  ["json", '{ "timeout": "1m", "timeout": "2m" }'],
  ["json", '{ "rateLimit": { "capacity": 1, "c\\u0061pacity": 2 } }'],
])("a configuration file in %s with a key that is given twice is refused", async (extension, text) => {
  expect(await saidOf(extension, text)).toMatch(/config\.\w+: line \d.*(given twice|redefine)/i);
});

test("a configuration file's error is short, and escapes what it quotes", async () => {
  const said = (await saidOf("json", '{ "timeout": \u000b\u001b[31m'))!;
  expect(said).toMatch(/Unrecognized token '\\u000b'$/);
  expect((await saidOf("json", `{ "timeout": ${"x".repeat(5_000)} }`))!.length).toBeLessThan(400);
});

test.each<[string, string]>([
  ["json", '{ "$schema": "./proxy.schema.json", "timeout": "1s" }'],
  ["yaml", '$schema: ./proxy.schema.json\ntimeout: "1s"\n'],
  ["toml", '"$schema" = "./proxy.schema.json"\ntimeout = "1s"\n'],
])("a configuration file in %s may have $schema for editors", async (extension, text) => {
  const path = `${folder}/schema.${extension}`;
  writeFileSync(path, text);
  expect(await readConfigFile(path)).toEqual({ timeout: "1s" });
});

test("a configuration file's $schema that is not text stays, so that the resolver refuses it", async () => {
  const path = `${folder}/odd.json`;
  writeFileSync(path, '{ "$schema": 1 }');
  expect(await readConfigFile(path)).toEqual({ $schema: 1 });
});
