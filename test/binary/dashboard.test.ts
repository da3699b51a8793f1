// `proxy dashboard` of the built binary, and the page that is in it.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { Run } from "../support/binary.ts";
import { SocketFolder } from "../support/admin.ts";
import { certPath, echoOrigin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";

const folder = new SocketFolder();
const origin = echoOrigin();
const config = folder.path("proxy.json");
let proxy: Run;

beforeAll(async () => {
  const written = {
    listener: {
      address: "127.0.0.1:0",
      ca: certPath("ca.crt"),
      certificate: certPath("server.crt"),
      privateKey: certPath("key.pem"),
    },
    upstreams: [{ name: "test", targets: [origin.target], authorizedGroups: ["admin"] }],
    admin: { socket: "admin.sock" },
  };
  await Bun.write(config, JSON.stringify(written));
  proxy = await Run.start(["--config", config, "--log-format", "json"]);
  await proxy.line("listening");
});

afterAll(async () => {
  await proxy?.[Symbol.asyncDispose]();
  origin[Symbol.dispose]();
  folder[Symbol.dispose]();
});

/** Starts it with its output in a file, which can be read while it runs. */
async function start(...args: string[]) {
  const out = folder.path(`out-${Math.random()}`);
  const before = `exec > '${out}'`;
  const run = await Run.start(["dashboard", "--config", config, ...args], { before });
  const text = () => (existsSync(out) ? readFileSync(out, "utf8") : "");
  await until(() => text().includes("\n") || run.child.exitCode !== null, "it prints an address");
  return { run, text: text() };
}

test("the address that it prints opens the page and its API, once; Ctrl-C ends it in peace", async () => {
  const { run, text } = await start();
  await using _ = run;
  const [address] = text.split("\n");
  expect(address).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\?token=[\w-]{43}$/);

  const entry = await fetch(address!, { redirect: "manual" });
  expect(entry.status).toBe(303);
  const cookie = entry.headers.get("set-cookie")!.split(";")[0]!;
  expect((await fetch(address!, { redirect: "manual" })).status).toBe(403);

  const at = (path: string) => new URL(path, address);
  const page = await fetch(at("/"), { headers: { cookie } });
  expect(page.headers.get("content-security-policy")).toStartWith("default-src 'none'; script-src 'nonce-");
  expect(await page.text()).toContain("new EventSource(");
  const status = await fetch(at("/v1/status"), { headers: { cookie } });
  expect(await status.json()).toMatchObject({ phase: "running", pid: proxy.child.pid });
  expect((await fetch(at("/v1/status"))).status).toBe(403);

  const events = await fetch(at("/v1/events?status"), { headers: { cookie } });
  const reader = events.body!.getReader();
  const seen = new TextDecoder().decode((await reader.read()).value);
  expect(seen).toStartWith(":\n\n");

  run.child.kill("SIGINT");
  expect(await run.exit()).toBe(0);
  expect(run.stderr).toBe("");
});

test("a change goes through with the page's origin and header, and not without", async () => {
  const { run, text } = await start("--json");
  await using _ = run;
  const { address } = JSON.parse(text) as { address: string };
  const entry = await fetch(address, { redirect: "manual" });
  const cookie = entry.headers.get("set-cookie")!.split(";")[0]!;
  const { origin } = new URL(address);
  const reload = async (headers: Record<string, string>) => {
    const answer = await fetch(`${origin}/v1/reload`, { method: "POST", headers: { cookie, ...headers } });
    return answer.status;
  };
  expect(await reload({ "x-tcpproxy": "1" })).toBe(403);
  expect(await reload({ origin })).toBe(403);
  expect(await reload({ origin: "http://127.0.0.1:1", "x-tcpproxy": "1" })).toBe(403);
  expect(await reload({ origin, "x-tcpproxy": "1" })).toBe(200);
});

test.each([
  [["--admin", "/nowhere/admin.sock"], 1, /^proxy: no proxy can be asked at \/nowhere\/admin\.sock: .+\n$/],
  [["--port", "80000"], 2, /^proxy: --port: "80000" is not a port; .+\n$/],
  [["--port"], 2, /^proxy: --port needs a value\n$/],
])("it says in one line what is wrong with %p", async (args, code, line) => {
  await using run = await Run.start(["dashboard", ...args]);
  expect(await run.exit()).toBe(code);
  expect(await run.stdout).toBe("");
  expect(run.stderr).toMatch(line);
});

test("it says in one line that its port is in use", async () => {
  await using run = await Run.start(["dashboard", "--config", config, "--port", String(origin.port)]);
  expect(await run.exit()).toBe(1);
  expect(run.stderr).toBe(
    `proxy: cannot listen on 127.0.0.1:${origin.port}: the address is in use (EADDRINUSE)\n`,
  );
});
