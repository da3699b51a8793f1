// Reloads of the built binary while it runs: by SIGHUP, and by changes of watched files.

import { X509Certificate } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { Run } from "../support/binary.ts";
import { issue, revoke, testAuthority } from "../support/issue.ts";
import { cert, certPath, connect, connectPlain, echoOrigin, type Peer } from "../support/peer.ts";
import { until, type Line } from "../support/proxy.ts";
import { echoes, isServed } from "../support/served.ts";

let root: string;
beforeAll(() => void (root = mkdtempSync(`${tmpdir()}/tcpproxy-hup-`)));
afterAll(() => rmSync(root, { recursive: true }));

/** Replaces a file atomically, by rename. */
function put(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

/** A folder with a configuration file, a certificate and its key, as on a host. */
class Host {
  readonly folder = mkdtempSync(`${root}/`);
  readonly config = `${this.folder}/proxy.toml`;

  /** @param crl whether the configuration names one */
  constructor(target: string, more = "", crl = false) {
    this.certificate("server.crt", "key.pem");
    copyFileSync(certPath("ca.crt"), `${this.folder}/ca.crt`);
    this.write(target, more, crl);
  }

  write(target: string, more = "", crl = false): void {
    put(
      this.config,
      `${more}
[listener]
address = "127.0.0.1:0"
ca = "ca.crt"
certificate = "server.crt"
privateKey = "server.key"
${crl ? 'crl = "crl.pem"' : ""}

[rateLimit]
capacity = 1_000_000
fillRate = "1ms"

[[upstreams]]
name = "test"
targets = ["${target}"]
authorizedGroups = ["admin"]
`,
    );
  }

  certificate(certificate: string, key: string): void {
    put(`${this.folder}/server.crt`, cert(certificate));
    put(`${this.folder}/server.key`, cert(key));
  }

  async start(...args: string[]): Promise<Run & { port: number }> {
    const run = await Run.start(["--config", this.config, "--log-format", "json", ...args]);
    return Object.assign(run, { port: await run.port() });
  }
}

const messages = (run: Run, msg: string) => run.lines().filter((line) => line.msg === msg);

/** Waits until there are so many lines with this message. */
async function count(run: Run, msg: string, number: number): Promise<Line[]> {
  await until(
    () => messages(run, msg).length >= number,
    `the log says "${msg}" ${number} times: ${run.stderr}`,
  );
  return messages(run, msg);
}

/** Returns the file name of the certificate that the proxy shows. */
async function shown(port: number): Promise<string> {
  const client = await connect(port);
  const seen = client.socket.getPeerX509Certificate()?.fingerprint256;
  expect(await echoes(client)).toBe(true);
  client.close();
  return (
    ["server.crt", "server-ecdsa.crt"].find(
      (name) => new X509Certificate(cert(name)).fingerprint256 === seen,
    ) ?? "another"
  );
}

/**
 * The time in which a proxy that watches would have noticed a change: two polls, 500 ms apart, and a moment for the
 * reload. No event tells that a proxy has noticed nothing.
 */
const wouldHaveNoticed = () => Bun.sleep(1_300);

describe.each([1, 2])("SIGHUP, with %p workers", (workers) => {
  const flags = ["--workers", String(workers)];

  test("a reload by SIGHUP reads the file and its certificates again and keeps open connections", async () => {
    using one = echoOrigin();
    using two = echoOrigin();
    const host = new Host(one.target, "watch = false");
    await using run = await host.start(...flags);
    const client = await connect(run.port);
    expect(await echoes(client)).toBe(true);
    host.write(two.target, "watch = false");
    host.certificate("server-ecdsa.crt", "ecdsa.pem");
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    for (let i = 0; i < 4; i++) expect(await shown(run.port)).toBe("server-ecdsa.crt");
    expect([one.accepted.length, two.accepted.length]).toEqual([1, 4]);
    expect(await echoes(client)).toBe(true);
    client.close();
    run.child.kill("SIGTERM");
    expect(await run.exit()).toBe(0);
  });

  test("a reload says which keys and files have changed, or that none has; the start says which file it reads", async () => {
    using one = echoOrigin();
    const host = new Host(one.target, "watch = false");
    await using run = await host.start(...flags);
    expect(await run.line("listening")).toMatchObject({ config: host.config, pid: run.child.pid });
    const reloaded = async (number: number) => {
      run.child.kill("SIGHUP");
      return (await count(run, "reloaded", number)).at(-1);
    };
    expect(await reloaded(1)).toMatchObject({ keys: "none", files: "none" });
    host.certificate("server-ecdsa.crt", "ecdsa.pem");
    expect(await reloaded(2)).toMatchObject({
      keys: "none",
      files: `${host.folder}/server.crt,${host.folder}/server.key`,
    });
    host.write("127.0.0.1:1", 'watch = false\ntimeout = "9s"');
    expect(await reloaded(3)).toMatchObject({ keys: "timeout,upstreams[0].targets", files: host.config });
    // The refused configuration in between was never used.
    host.write("127.0.0.1:1", "watch = 5");
    run.child.kill("SIGHUP");
    await count(run, "reload refused", 1);
    host.write("127.0.0.1:1", 'watch = false\ntimeout = "8s"');
    expect(await reloaded(4)).toMatchObject({ keys: "timeout", files: host.config });
  });

  test("a reload switches the rate limit off and on again", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target, "watch = false");
    await using run = await host.start(...flags);
    const text = readFileSync(host.config, "utf8");
    const limit = async (capacity: string, reloads: number) => {
      const limited = text.replace(/capacity = .*/, `capacity = ${capacity}`);
      put(host.config, limited.replace(/fillRate = .*/, 'fillRate = "1h"'));
      run.child.kill("SIGHUP");
      const [line] = (await count(run, "reloaded", reloads)).slice(-1);
      expect(line?.["keys"]).toContain("rateLimit.capacity");
    };
    const served = async (attempts: number) => {
      let number = 0;
      for (let i = 0; i < attempts; i++) if (await isServed(run.port)) number++;
      return number;
    };
    await limit("3", 1);
    expect(await served(5)).toBe(3);
    await limit('"unlimited"', 2);
    expect(await served(12)).toBe(12);
    await limit("2", 3);
    expect(await served(4)).toBe(2);
  });

  test.each(["SIGHUP", "a file that changes"])(
    "a draining proxy still withdraws rights, by %s, until the last connection is gone",
    async (way) => {
      using origin = echoOrigin();
      const signal = way === "SIGHUP";
      const host = new Host(origin.target, signal ? "watch = false" : "", true);
      put(`${host.folder}/crl.pem`, revoke([]));
      await using run = await host.start(...flags);
      const identity = (serial: number) => ({ identity: issue("mallory@admin", testAuthority, { serial }) });
      const clients = [await connect(run.port, identity(901)), await connect(run.port, identity(902))];
      for (const client of clients) expect(await echoes(client)).toBe(true);
      run.child.kill("SIGTERM");
      await run.line("draining");
      for (const [i, client] of clients.entries()) {
        put(`${host.folder}/crl.pem`, revoke([901, ...(i > 0 ? [902] : [])]));
        if (signal) run.child.kill("SIGHUP");
        const closed = await count(run, "closed", i + 1);
        expect(closed.at(-1)).toMatchObject({
          reason: "authorization_revoked",
          detail: "certificate_revoked",
        });
        await client.ended;
        client.close();
      }
      expect(await run.exit()).toBe(0);
    },
  );

  test("fifty reloads, while clients connect without pause, cost none of them its connection", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target, "watch = false");
    await using run = await host.start(...flags);
    let [served, failed, stop] = [0, 0, false];
    const connecting = Array.from({ length: 3 }, async () => {
      while (!stop) (await isServed(run.port)) ? served++ : failed++;
    });
    for (let i = 1; i <= 50; i++) {
      if (i % 2 === 0) host.certificate("server.crt", "key.pem");
      else host.certificate("server-ecdsa.crt", "ecdsa.pem");
      run.child.kill("SIGHUP");
      await count(run, "reloaded", i);
      const enough = served + failed + 3;
      await until(() => served + failed >= enough, "some more have connected");
    }
    stop = true;
    await Promise.all(connecting);
    expect(failed).toBe(0);
    expect(messages(run, "refused")).toEqual([]);
    expect(messages(run, "reload refused")).toEqual([]);
  });

  test("a reload of a broken file names the place each time and changes nothing until a good file is there", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target, "watch = false");
    await using run = await host.start(...flags);
    const good = readFileSync(host.config, "utf8");
    const bad = [
      [good.replace("watch = false", "watch = = false"), host.config, /line 1, column \d+: /],
      [`${good}\n\n[[[\n`, host.config, new RegExp(`line ${good.split("\n").length + 2}, column \\d+: `)],
      [good.replace("capacity =", "capazity ="), "rateLimit.capazity", /unknown key/],
      [good.replace('"admin"', '"ad min"'), "upstreams[0].authorizedGroups[0]", /is not a group/],
      [good.replace('ca = "ca.crt"', ""), "listener.ca", /is missing/],
      [good.replace('"1ms"', "60"), "rateLimit.fillRate", /it has no unit: write "60s"/],
      [good.replace('"server.key"', '"other.key"'), "listener.privateKey", /there is no such file/],
      [`${good}\nwatch = 5\n[[[[`, host.config, /line \d+, column \d+: /],
    ] as const;
    for (const [i, [text, key, problem]] of bad.entries()) {
      put(host.config, text);
      run.child.kill("SIGHUP");
      const lines = await count(run, "reload refused", i + 1);
      expect(lines).toHaveLength(i + 1);
      expect(lines.at(-1)).toMatchObject({ level: "error", key, problem: expect.stringMatching(problem) });
      expect(await isServed(run.port)).toBe(true);
    }
    rmSync(host.config);
    run.child.kill("SIGHUP");
    const lines = await count(run, "reload refused", bad.length + 1);
    expect(lines.at(-1)).toMatchObject({ key: host.config, problem: expect.stringMatching(/no such file/) });
    put(host.config, good.replace('"admin"', '"ops"'));
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    expect(await isServed(run.port, "carol")).toBe(true);
    expect(await isServed(run.port)).toBe(false);
  });

  test.if(process.platform === "linux")("a SIGHUP while the proxy starts does no harm", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target, "watch = false");
    const run = await Run.start(["--config", host.config, "--log-format", "json", ...flags]);
    await using _ = run;
    const status = `/proc/${run.child.pid}/status`;
    /** Whether it handles the signal: while the runtime itself is starting, the signal ends it like any process. */
    const hears = () => /SigCgt:\s+\w*[13579bdf]$/m.test(readFileSync(status, "utf8"));
    await until(() => !existsSync(status) || hears() || run.child.exitCode !== null, "it hears");
    while (messages(run, "listening").length === 0 && run.child.exitCode === null) {
      run.child.kill("SIGHUP");
      // Not a wait: this is the rate of the signals.
      await Bun.sleep(1);
    }
    expect(await isServed(await run.port())).toBe(true);
    expect(messages(run, "reload refused")).toEqual([]);
    run.child.kill("SIGTERM");
    expect(await run.exit()).toBe(0);
  });

  test("a SIGHUP while the proxy drains does no harm", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target, "watch = false");
    await using run = await host.start(...flags);
    const client = await connect(run.port);
    expect(await echoes(client)).toBe(true);
    run.child.kill("SIGTERM");
    await run.line("draining");
    for (let i = 0; i < 5; i++) run.child.kill("SIGHUP");
    expect(await echoes(client)).toBe(true);
    // A worker stops accepting a moment after the log line.
    for (let late: Peer | undefined; ; late.reset()) {
      late = await connectPlain(run.port).catch(() => undefined);
      if (late === undefined) break;
    }
    client.close();
    expect(await run.exit()).toBe(0);
    expect((await run.line("closed")).reason).toBe("closed");
  });

  test("a reload with a new revocation list closes the connections of the revoked and refuses new ones", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target, "watch = false");
    await using run = await host.start(...flags);
    const [good, bad] = [await connect(run.port), await connect(run.port, { name: "revoked" })];
    expect([await echoes(good), await echoes(bad)]).toEqual([true, true]);
    copyFileSync(certPath("crl.pem"), `${host.folder}/crl.pem`);
    host.write(origin.target, "watch = false", true);
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    expect(await isServed(run.port, "revoked")).toBe(false);
    expect(await run.line("refused")).toMatchObject({ reason: "certificate_revoked" });
    await bad.ended;
    bad.close();
    expect(await run.line("closed", "authorization_revoked")).toMatchObject({
      detail: "certificate_revoked",
    });
    expect(await echoes(good)).toBe(true);
    good.close();
  });

  test("a reload changes the log level", async () => {
    using one = echoOrigin();
    using two = echoOrigin();
    const host = new Host(one.target, 'watch = false\nlogLevel = "info"');
    await using run = await host.start(...flags);
    expect(await isServed(run.port)).toBe(true);
    await run.line("closed");
    host.write(two.target, 'watch = false\nlogLevel = "error"');
    run.child.kill("SIGHUP");
    // It does not log that it has become silent: the new target shows that the reload has happened.
    while (two.accepted.length === 0) expect(await isServed(run.port)).toBe(true);
    // The answer to the next reload shows that the one before is over in every thread.
    host.write(two.target, "watch = 5");
    run.child.kill("SIGHUP");
    await run.line("reload refused");
    expect(await isServed(run.port, "carol")).toBe(false);
    host.write(two.target, 'watch = false\nlogLevel = "info"');
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    expect(messages(run, "refused")).toEqual([]);
    expect(await isServed(run.port, "carol")).toBe(false);
    await run.line("refused", "group_not_authorized");
  });
});

describe("flags", () => {
  test("flags override the file after a reload too", async () => {
    using origin = echoOrigin();
    using other = echoOrigin();
    const host = new Host("127.0.0.1:1");
    await using run = await host.start("--targets", origin.target, "--groups", "ops", "--timeout", "1h");
    expect(await isServed(run.port, "carol")).toBe(true);
    host.write(other.target, 'timeout = "1ms"');
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    expect(await isServed(run.port, "carol")).toBe(true);
    expect(await isServed(run.port)).toBe(false);
    expect([origin.accepted.length, other.accepted.length]).toEqual([2, 0]);
  });

  test("flags that no longer fit the file make a reload fail, which is logged", async () => {
    using origin = echoOrigin();
    const host = new Host("127.0.0.1:1", "watch = false");
    await using run = await host.start("--targets", origin.target);
    const more = `[[upstreams]]\nname = "b"\ntargets = ["127.0.0.1:1"]\nauthorizedGroups = ["x"]\nserverNames = ["b.example"]\n`;
    writeFileSync(host.config, `${readFileSync(host.config, "utf8")}${more}`);
    run.child.kill("SIGHUP");
    expect((await run.line("reload refused"))["problem"]).toMatch(
      /^--targets is ambiguous: the file has 2 upstreams/,
    );
    expect(await isServed(run.port)).toBe(true);
  });

  test("flags alone, without a file, are enough for a reload of the certificates", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target);
    const files = ["--ca", `${host.folder}/ca.crt`, "--cert", `${host.folder}/server.crt`];
    const run = await Run.start([
      ...["127.0.0.1:0", "--targets", origin.target, "--log-format", "json"],
      ...[...files, "--key", `${host.folder}/server.key`],
    ]);
    await using _ = run;
    const port = await run.port();
    expect(await shown(port)).toBe("server.crt");
    host.certificate("server-ecdsa.crt", "ecdsa.pem");
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    expect(await shown(port)).toBe("server-ecdsa.crt");
  });
});

describe("watched files", () => {
  test.each([1, 2])(
    "a change of certificate and key, with %p workers, is noticed without a signal",
    async (workers) => {
      using origin = echoOrigin();
      const host = new Host(origin.target);
      await using run = await host.start("--workers", String(workers));
      expect(await shown(run.port)).toBe("server.crt");
      host.certificate("server-ecdsa.crt", "ecdsa.pem");
      await run.line("reloaded");
      for (let i = 0; i < 4; i++) expect(await shown(run.port)).toBe("server-ecdsa.crt");
      expect(messages(run, "reload refused")).toEqual([]);
    },
  );

  test("a configuration file that is broken and then good again is noticed each time", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target);
    await using run = await host.start();
    host.write(origin.target, "timeout = ");
    expect(await run.line("reload refused")).toMatchObject({ key: host.config });
    host.write(origin.target, 'timeout = "1m"');
    await run.line("reloaded");
    expect(messages(run, "reload refused")).toHaveLength(1);
  });

  test("a change of the CA and of the revocation list is noticed", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target);
    await using run = await host.start();
    expect(await isServed(run.port, "second-root")).toBe(false);
    put(`${host.folder}/ca.crt`, `${cert("ca.crt")}\n${cert("ca2.crt")}`);
    await run.line("reloaded");
    expect(await isServed(run.port, "second-root")).toBe(true);
  });

  test("a file that the configuration names and that appears later is noticed", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target);
    await using run = await host.start();
    host.write(origin.target, "", true);
    expect(await run.line("reload refused")).toMatchObject({ key: "listener.crl" });
    copyFileSync(certPath("crl.pem"), `${host.folder}/crl.pem`);
    await run.line("reloaded");
    expect(await isServed(run.port, "revoked")).toBe(false);
    expect(await run.line("refused")).toMatchObject({ reason: "certificate_revoked" });
  });

  test("a change of files with watch = false is left alone until SIGHUP", async () => {
    using origin = echoOrigin();
    const host = new Host(origin.target, "watch = false");
    await using run = await host.start();
    host.certificate("server-ecdsa.crt", "ecdsa.pem");
    await wouldHaveNoticed();
    expect(await shown(run.port)).toBe("server.crt");
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    expect(await shown(run.port)).toBe("server-ecdsa.crt");
  });
});

test("a rate limit over several workers admits exactly its capacity, and its bucket survives a reload", async () => {
  using origin = echoOrigin();
  const host = new Host(origin.target, "watch = false");
  await using run = await host.start("--workers", "2", "--capacity", "20", "--fill-rate", "1h");
  const served = await Promise.all(Array.from({ length: 40 }, () => isServed(run.port)));
  expect(served.filter(Boolean)).toHaveLength(20);
  run.child.kill("SIGHUP");
  await run.line("reloaded");
  expect(await isServed(run.port)).toBe(false);
});
