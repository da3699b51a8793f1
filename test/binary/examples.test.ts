// The configurations in test/examples, as `proxy check` reads them, with certificates under the names that they use.

import { expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { Run } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";
import { certPath } from "../support/peer.ts";

const EXAMPLES = `${import.meta.dir}/../examples`;
const names = readdirSync(EXAMPLES).filter((name) => name.endsWith(".toml"));

/** What stands for the files that the examples name. */
const FILES: Record<string, string> = {
  "ca.crt": "ca.crt",
  "staff-ca.crt": "ca.crt",
  "partners-ca.crt": "ca2.crt",
  "servers-ca.crt": "ca.crt",
  "proxy.crt": "server.crt",
  "proxy.key": "key.pem",
  "crl.pem": "crl.pem",
};

test("the examples are listed in their README, each once", () => {
  const listed = [...readFileSync(`${EXAMPLES}/README.md`, "utf8").matchAll(/^\| \[([^\]]+)\]/gm)];
  expect(listed.map(([, name]) => name!).sort()).toEqual(names.sort());
});

test.each(names)("the example %s passes the check", async (name) => {
  using folder = new Folder();
  mkdirSync(folder.path("pki"));
  copyFileSync(`${EXAMPLES}/${name}`, folder.path(name));
  for (const [to, from] of Object.entries(FILES)) copyFileSync(certPath(from), folder.path(`pki/${to}`));
  writeFileSync(folder.path("pki/store.password"), "secret\n", { mode: 0o600 });
  await using run = await Run.start(["check", "--config", name], { cwd: folder.path(".") });
  expect({ code: await run.exit(), stderr: run.stderr }).toEqual({ code: 0, stderr: "" });
});
