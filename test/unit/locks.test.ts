// The two lock files, one for npm and one for Bun, pin the same packages.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";

const read = (name: string) => readFileSync(`${import.meta.dir}/../../${name}`, "utf8");

interface NpmLock {
  readonly packages: Readonly<Record<string, NpmPackage>>;
}
interface NpmPackage {
  readonly version: string;
  readonly resolved?: string;
  readonly integrity: string;
}
interface BunLock {
  readonly packages: Readonly<Record<string, readonly [string, ...unknown[]]>>;
}

const npm = Object.entries((JSON.parse(read("package-lock.json")) as NpmLock).packages).filter(
  ([path]) => path !== "",
);
const bun = Object.entries((Bun.JSONC.parse(read("bun.lock")) as BunLock).packages);

test("the two lock files have the same packages, in the same versions, with the same digests", () => {
  const byNpm = npm.map(([path, { version, integrity }]) => {
    const name = path.replace("node_modules/", "");
    return `${name}: ${name}@${version} ${integrity}`;
  });
  const byBun = bun.map(([name, entry]) => `${name}: ${entry[0]} ${String(entry.at(-1))}`);
  expect(byNpm.sort()).toEqual(byBun.sort());
});

test("npm's lock file names no registry but the public one", () => {
  // npm can be configured to leave out `resolved`; the digest still pins what it installs.
  for (const [, { resolved = "https://registry.npmjs.org/" }] of npm) {
    expect(resolved).toStartWith("https://registry.npmjs.org/");
  }
});
