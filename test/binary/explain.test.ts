// `proxy explain`, and the tests of a configuration, as an operator meets them.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Run } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";
import { cert, echoOrigin } from "../support/peer.ts";
import { visit } from "../support/visit.ts";

let folder: Folder;
beforeAll(() => {
  folder = new Folder();
  for (const [name, from] of [
    ["ca.crt", "ca.crt"],
    ["crl.pem", "crl.pem"],
    ["proxy.crt", "server.crt"],
    ["alice.crt", "alice.crt"],
    ["revoked.crt", "revoked.crt"],
  ] as const)
    writeFileSync(folder.path(name), cert(from));
  writeFileSync(folder.path("proxy.key"), cert("key.pem"), { mode: 0o600 });
  writeFileSync(folder.path("proxy.toml"), configuration());
  writeFileSync(folder.path("two.toml"), configuration().replace("[listener]", "[[listeners]]") + SECOND);
});
afterAll(() => folder[Symbol.dispose]());

const LISTENER = `ca = "ca.crt"
certificate = "proxy.crt"
privateKey = "proxy.key"
crl = "crl.pem"
`;
const SECOND = `[[listeners]]\naddress = ":7444"\n${LISTENER}`;

function configuration(tests = "", address = ":7443", target = "127.0.0.1:1"): string {
  return `[listener]
address = "${address}"
${LISTENER}
[[upstreams]]
name = "orders"
serverNames = ["orders.db.example.com"]
targets = ["${target}"]
authorizedGroups = ["admin"]

[[upstreams]]
name = "rest"
targets = ["${target}"]
authorizedGroups = ["dba"]
${tests}
`;
}

async function run(line: string, env: Record<string, string> = {}) {
  const options = { cwd: folder.path("."), env: { PATH: Bun.env["PATH"] ?? "", ...env } };
  await using process = await Run.start(line.split(" "), options);
  const code = await process.exit();
  return { code, out: await process.stdout, err: process.stderr };
}

const EXPLAIN = "explain --config proxy.toml --cert";

describe("explain", () => {
  test("says step by step why a client is allowed, and exits with 0", async () => {
    const { code, out, err } = await run(`${EXPLAIN} alice.crt --server-name orders.db.example.com`);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toBe(`✓ listener       :7443 (listener.address)
✓ chain          "alice@admin", issued by "tcpproxy test CA" (listener.ca)
✓ dates          valid until 2120-01-01T00:00Z
✓ purposes       for client authentication, by CAs that may vouch for it
✓ strength       no weak key or signature
✓ revocation     not revoked (listener.crl)
✓ identity       "alice@admin"
· blocks         not checked offline
✓ route          "orders.db.example.com" to "orders"
                 (upstreams[0].serverNames[0])
✓ authorization  the group "admin" may reach "orders"
                 (upstreams[0].authorizedGroups[0])
· limits         not checked offline: token bucket, open connections, targets
allowed: orders
`);
  });

  test("names the key that refuses a client and what would change it, and exits with 3", async () => {
    const { code, out, err } = await run(`${EXPLAIN} alice.crt`, { LC_ALL: "C" });
    expect({ code, err }).toEqual({ code: 3, err: "" });
    expect(out).toContain('x authorization  the group "admin" is not listed for "rest"\n');
    expect(out).toContain("(upstreams[1].authorizedGroups)\n");
    expect(out).toContain('> Add "admin" to it');
    expect(out).toEndWith("\nrefused: group_not_authorized\n");
    expect(out).toMatch(/^[\x20-\x7e\n]*$/);
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  });

  test("answers for another moment", async () => {
    const { code, out } = await run(`${EXPLAIN} alice.crt --at 2200-01-01`);
    expect(code).toBe(3);
    expect(out).toEndWith("\nrefused: certificate_expired\n");
  });

  test("prints JSON for programs", async () => {
    const { code, out } = await run(`${EXPLAIN} revoked.crt --json`);
    expect(code).toBe(3);
    const { steps, reason, upstream } = JSON.parse(out);
    expect({ reason, upstream }).toEqual({ reason: "certificate_revoked", upstream: undefined });
    expect(steps.find(({ ok }: { ok?: boolean }) => ok === false)).toMatchObject({
      step: "revocation",
      key: "listener.crl",
      remedy: expect.any(String),
    });
  });

  test("answers where the configuration fails its own tests", async () => {
    const failing = '[[tests]]\nclient = "alice@admin"\nexpect = "rest"\n';
    writeFileSync(folder.path("failing.toml"), configuration(failing));
    const { code, err } = await run("explain --config failing.toml --cert alice.crt");
    expect({ code, err }).toEqual({ code: 3, err: "" });
  });

  test("takes the listener that is named where there are several", async () => {
    expect(await run("explain --config two.toml --cert alice.crt")).toEqual({
      code: 2,
      out: "",
      err: 'proxy: --listener: is missing; there are several listeners: ":7443", ":7444"\n',
    });
    const { code, out } = await run("explain --config two.toml --cert alice.crt --listener :7444");
    expect(code).toBe(3);
    expect(out).toStartWith("✓ listener       :7444 (listeners[1].address)\n");
  });

  test.each([
    ["explain --config proxy.toml", "--cert is missing; it is the client's certificate. Or give --client"],
    [`${EXPLAIN} alice.crt --client a@b`, "--client and --cert exclude each other"],
    [
      "explain --config proxy.toml --client *@b",
      '--client: "*@b" is not a client; write it like "alice@admin"',
    ],
    ["explain 7f-1 --client a@b", "ID and --client exclude each other"],
    [`${EXPLAIN} alice.crt --admin x`, "--admin is for --live and ID"],
    [`${EXPLAIN} none.crt`, '--cert: "none.crt" cannot be read: there is no such file'],
    [`${EXPLAIN} proxy.key`, '--cert: "proxy.key" holds no certificate (PEM, "BEGIN CERTIFICATE")'],
    [`${EXPLAIN} alice.crt --from here`, '--from: "here" is not an IP address'],
    [
      `${EXPLAIN} alice.crt --at noon`,
      '--at: "noon" is not a date; write it like "2027-01-01" or "2027-01-01T08:00:00Z"',
    ],
    [`${EXPLAIN} alice.crt --listener :1`, '--listener: ":1" is no listener\'s address; there is ":7443"'],
    [`${EXPLAIN} alice.crt --json=yes`, "--json takes no value"],
    ["explain --config none.toml --cert alice.crt", "none.toml: cannot be read: there is no such file"],
  ])("%s: is misuse, in one line", async (line, message) => {
    expect(await run(line)).toEqual({ code: 2, out: "", err: `proxy: ${message}\n` });
  });
});

describe("explain asks a running proxy", () => {
  test("with --live about a client, and with an id about what became of one", async () => {
    using origin = echoOrigin();
    const admin = '[admin]\nsocket = "admin.sock"\n';
    writeFileSync(folder.path("admin.toml"), admin + configuration("", "127.0.0.1:0", origin.target));
    await using proxy = await Run.start(["--config", folder.path("admin.toml"), "--log-format", "json"]);
    const port = await proxy.port();
    const about = "explain --config admin.toml --live";
    const allowed = await run(`${about} --cert alice.crt --server-name orders.db.example.com`);
    expect({ code: allowed.code, err: allowed.err }).toEqual({ code: 0, err: "" });
    expect(allowed.out).toContain(`✓ target         ${origin.target}, which is up, with 0 open\n`);
    expect(allowed.out).toEndWith("\nallowed: orders\n");
    const refused = await run(`${about} --client alice@admin`);
    expect(refused.code).toBe(3);
    expect(refused.out).toEndWith("\nrefused: group_not_authorized\n");

    (await visit(port, { serverName: "elsewhere" })).leave();
    const { id } = await proxy.line("refused");
    const past = await run(`explain ${id} --admin admin.sock`);
    expect({ code: past.code, err: past.err }).toEqual({ code: 3, err: "" });
    expect(past.out).toContain('would be refused: group_not_authorized: the group "admin"');
    expect(past.out).toEndWith("\nrefused: group_not_authorized\n");
    for (const line of past.out.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
    expect(await run("explain 7f-1 --admin admin.sock")).toEqual({
      code: 1,
      out: "",
      err: "proxy: the proxy refuses: no open connection and no refusal of late has this id\n",
    });
  });
});

describe("the tests of a configuration", () => {
  const good = `[[tests]]
client = "bob@dba"
expect = "rest"

[[tests]]
certificate = "revoked.crt"
expect = "certificate_revoked"
`;
  const bad = `[[tests]]
client = "bob@dba"
serverName = "orders.db.example.com"
expect = "orders"
`;

  test("are printed by check", async () => {
    writeFileSync(folder.path("tested.toml"), configuration(good));
    const { code, out, err } = await run("check --config tested.toml");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toEndWith('tests: 2 passed\n  ✓ "bob@dba": rest\n  ✓ "revoked.crt": certificate_revoked\n');
  });

  const fault =
    'tests[2]: "bob@dba" to "orders.db.example.com": expected "orders", got "group_not_authorized": the group "dba" is not listed for "orders" (upstreams[0].authorizedGroups)';

  test("fail the check and the start with a line for each that fails", async () => {
    writeFileSync(folder.path("untrue.toml"), configuration(good + bad, "127.0.0.1:0"));
    const checked = await run("check --config untrue.toml");
    expect(checked).toMatchObject({ code: 2, err: `proxy: untrue.toml: ${fault}\n` });
    expect(checked.out).toStartWith("tests: 2 passed, 1 failed\n");
    expect(checked.out).toContain('✗ "bob@dba" to "orders.db.example.com": expected orders, got');
    const started = await run("--config untrue.toml");
    expect(started).toEqual({ code: 2, out: "", err: `proxy: untrue.toml: ${fault}\n` });
  });

  test("refuse a reload, and the old configuration goes on", async () => {
    using origin = echoOrigin();
    const text = configuration(good, "127.0.0.1:0", origin.target);
    writeFileSync(folder.path("live.toml"), text);
    await using proxy = await Run.start(["--config", folder.path("live.toml"), "--log-format", "json"]);
    const port = await proxy.port();
    writeFileSync(folder.path("live.toml"), text + bad);
    proxy.child.kill("SIGHUP");
    expect(await proxy.line("reload refused")).toMatchObject({
      key: "tests[2]",
      problem: fault.replace("tests[2]: ", ""),
    });
    const client = await visit(port, { serverName: "orders.db.example.com" });
    expect(client.served).toBe(true);
    client.leave();
  });
});
