// `proxy replay` as a user meets it: on a log that the binary wrote, and on what is none.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { Run, binary } from "../support/binary.ts";
import { certPath, connect, echoOrigin } from "../support/peer.ts";
import { isServed } from "../support/served.ts";

let folder: string;
let config: string;
beforeAll(() => {
  folder = mkdtempSync(`${tmpdir()}/tcpproxy-replay-`);
  config = file("next.json", JSON.stringify(next(["admin"])));
});
afterAll(() => rmSync(folder, { recursive: true }));

function next(authorizedGroups: string[]) {
  return {
    listener: {
      address: ":5000",
      ca: certPath("ca.crt"),
      certificate: certPath("server.crt"),
      privateKey: certPath("key.pem"),
    },
    upstreams: [{ name: "echo", targets: ["127.0.0.1:1"], authorizedGroups }],
  };
}

function file(name: string, text: string): string {
  writeFileSync(`${folder}/${name}`, text);
  return `${folder}/${name}`;
}

async function replay(...args: string[]) {
  await using run = await Run.start(["replay", ...args]);
  const code = await run.exit();
  return { code, out: await run.stdout, err: run.stderr };
}

test("a replay answers from the log that the proxy wrote, with 3 if some would be refused", async () => {
  using origin = echoOrigin();
  await using proxy = await Run.proxy([origin.target], ["--groups", "admin,ops", "--log-level", "debug"]);
  expect(await isServed(proxy.port)).toBe(true);
  expect(await isServed(proxy.port, "alice-ops")).toBe(true);
  await (
    await connect(proxy.port, { name: "stranger" })
  ).ended;
  proxy.child.kill("SIGTERM");
  await proxy.exit();
  const log = file("proxy.log", proxy.stderr);
  const { code, out, err } = await replay("--config", config, log);
  expect([code, err]).toEqual([3, ""]);
  expect(out.split("\n").slice(0, 2)).toEqual([
    "of 2 admissions 1 would be refused: alice@ops 1×",
    "  1×  alice@ops  echo  group_not_authorized",
  ]);
  const json = await replay("--config", config, "--json", log);
  expect([json.code, JSON.parse(json.out)]).toMatchObject([
    3,
    { admissions: 2, refused: 1, refusedBy: [{ client: "alice@ops", count: 1 }], limits: true },
  ]);
  const both = file("both.json", JSON.stringify(next(["admin", "ops"])));
  expect(await replay("--config", both, log)).toMatchObject({ code: 0 });
});

test("a replay reads a log of any size from standard input", async () => {
  const line = (i: number) =>
    `${JSON.stringify({ time: new Date(1e12 + i).toISOString(), level: "info", msg: "closed", client: `u${i % 1_000}@${i % 2 ? "admin" : "etl"}`, listener: ":5000", upstream: "echo", remote: "10.0.0.1:1", id: `x-${i}` })}\n`;
  const text = Array.from({ length: 50_000 }, (_, i) => line(i)).join("");
  const child = Bun.spawn([await binary(), "replay", "--config", config, "-"], {
    stdin: new Blob([text]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const out = await new Response(child.stdout).text();
  expect(await child.exited).toBe(3);
  expect(out).toStartWith("of 50,000 admissions 25,000 would be refused: ");
  expect(out).toContain("and 450 more rows");
});

test("a replay of what is no log, or by what is no configuration, is one line and 2", async () => {
  const pretty = file("pretty.log", "2026-01-01 00:00:00.000 info  admitted id=x\n".repeat(500));
  const strange = file("strange.log", '{"a":1}\n[]\n');
  const other = file("other.log", '{"time":"2026-01-01T00:00:00Z","level":"info","msg":"listening"}\n');
  const empty = file("empty.log", "");
  const bad = file("bad.json", JSON.stringify({ ...next(["admin"]), frob: 1 }));
  for (const [args, message] of [
    [["--config", config, pretty], "is no log in JSON; the proxy writes one with --log-format json"],
    [["--config", config, strange], "is no log in JSON"],
    [["--config", config, empty], "is no log in JSON"],
    [["--config", config, other], 'has no lines "admitted", "closed" or "refused"'],
    [["--config", config, `${folder}/none.log`], "there is no such file"],
    [["--config", config, folder], "it is a folder"],
    [["--config", config], "the log is missing"],
    [[pretty], "--config is missing"],
    [["--config", bad, pretty], "frob: unknown key"],
    [["--config", config, "--json=yes", pretty], "--json takes no value"],
    [["--config", config, pretty, strange], "is one too many"],
  ] as [string[], string][]) {
    const { code, out, err } = await replay(...args);
    expect([code, out]).toEqual([2, ""]);
    expect(err.split("\n").length).toBe(2);
    expect(err).toContain(message);
  }
});
