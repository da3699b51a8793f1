// The configurations in test/examples, as `proxy check` reads them, with certificates under the names that they use.

import { expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { Run } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";
import { certPath, connectPlain, echoOrigin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";

const EXAMPLES = `${import.meta.dir}/../examples`;
const all = readdirSync(EXAMPLES).filter((name) => name.endsWith(".toml"));
/** Those of proxies; the other one is a client's. */
const names = all.filter((name) => name !== "connect.toml");

/** The test certificates that stand for the files in the examples. */
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
  // One of them names another.
  for (const each of names) copyFileSync(`${EXAMPLES}/${each}`, folder.path(each));
  for (const [to, from] of Object.entries(FILES)) copyFileSync(certPath(from), folder.path(`pki/${to}`));
  writeFileSync(folder.path("pki/store.password"), "secret\n", { mode: 0o600 });
  await using run = await Run.start(["check", "--config", name], { cwd: folder.path(".") });
  expect({ code: await run.exit(), stderr: run.stderr }).toEqual({ code: 0, stderr: "" });
});

test("the example connect.toml opens its tunnels", async () => {
  using folder = new Folder();
  using origin = echoOrigin();
  await using proxy = await Run.proxy([origin.target], ["--groups", "admin"]);
  mkdirSync(folder.path("pki"));
  for (const [to, from] of [
    ["ca.crt", "ca.crt"],
    ["alice.crt", "alice.crt"],
    ["alice.key", "key.pem"],
  ] as const) {
    copyFileSync(certPath(from), folder.path(`pki/${to}`));
  }
  // A proxy and addresses that there are; its certificate holds one name.
  const text = readFileSync(`${EXAMPLES}/connect.toml`, "utf8")
    .replaceAll("proxy.example.com:7443", `localhost:${proxy.port}`)
    .replaceAll(/^serverName = .*$/gm, "")
    .replace(":15432", ":0")
    .replaceAll("/run/user/1000", folder.path("."));
  writeFileSync(folder.path("connect.toml"), text);
  const args = ["connect", "--config", folder.path("connect.toml"), "--log-format", "json"];
  await using run = await Run.start(args);
  await until(() => run.lines().filter(({ msg }) => msg === "listening").length === 2, "both listen");
  const client = await connectPlain(await run.port());
  await client.send("hello");
  expect(String(await client.read(5))).toBe("hello");
});
