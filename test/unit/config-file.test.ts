// What is wrong with a file, and where: said each time, also when it is broken again elsewhere. Keys that are given twice.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { readConfigFile } from "../../src/config/file.ts";

let folder: string;
beforeAll(() => void (folder = mkdtempSync(`${tmpdir()}/tcpproxy-file-`)));
afterAll(() => rmSync(folder, { recursive: true }));

/** What is said of a text, or nothing where it can be read. */
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
  "%s that is broken, mended, and broken in another way has its line named each time",
  async (extension, good, bad, worse) => {
    expect(await saidOf(extension, bad)).toMatch(/config\.\w+: line [12], column \d+: /);
    expect(await saidOf(extension, good)).toBeUndefined();
    expect(await saidOf(extension, worse)).toMatch(/config\.\w+: line [45], column \d+: /);
  },
);

test("a comment in JSON, which the module loader takes, does not hide the lines of later faults", async () => {
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
])("a key that is given twice in %s is a fault", async (extension, text) => {
  expect(await saidOf(extension, text)).toMatch(/config\.\w+: line \d.*(given twice|redefine)/i);
});

test("what a parser shows of a file is escaped, and short", async () => {
  const said = (await saidOf("json", '{ "timeout": \u000b\u001b[31m'))!;
  expect(said).toMatch(/Unrecognized token '\\u000b'$/);
  expect((await saidOf("json", `{ "timeout": ${"x".repeat(5_000)} }`))!.length).toBeLessThan(400);
});

test.each<[string, string]>([
  ["json", '{ "$schema": "./proxy.schema.json", "timeout": "1s" }'],
  ["yaml", '$schema: ./proxy.schema.json\ntimeout: "1s"\n'],
  ["toml", '"$schema" = "./proxy.schema.json"\ntimeout = "1s"\n'],
])("in %s, $schema is for the editor and no key", async (extension, text) => {
  const path = `${folder}/schema.${extension}`;
  writeFileSync(path, text);
  expect(await readConfigFile(path)).toEqual({ timeout: "1s" });
});

test("a $schema that is no text stays, and the resolver refuses it", async () => {
  const path = `${folder}/odd.json`;
  writeFileSync(path, '{ "$schema": 1 }');
  expect(await readConfigFile(path)).toEqual({ $schema: 1 });
});
