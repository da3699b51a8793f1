// The built binary as a service of systemd: what it tells the manager, and sockets that the manager has opened for it.

import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import { copyFileSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { connect as connectTls } from "node:tls";
import { CERTIFICATE_FLAGS, Run, binary } from "../support/binary.ts";
import { Folder } from "../support/folder.ts";
import { freePort } from "../support/free-port.ts";
import { cert, certPath, connect, echoOrigin } from "../support/peer.ts";
import { until } from "../support/proxy.ts";
import { echoes, isServed } from "../support/served.ts";
import { NotifySocket, Passed, freeze, microseconds, passing } from "../support/systemd.ts";

const LINUX = process.platform === "linux";
const environment = (more: Record<string, string>) => ({ PATH: Bun.env.PATH ?? "", ...more });

/** The flags of a proxy on a socket that systemd opens. */
const on = (address: string, target: string, workers: number) => [
  ...[address, "--targets", target, "--workers", String(workers), "--log-format", "json"],
  ...["--capacity", "1000000", "--fill-rate", "1ms", ...CERTIFICATE_FLAGS],
];

/** Whether the kernel lets this user stop a thread of a process that a test has started. */
const canFreeze = LINUX && (await freezes());
async function freezes(): Promise<boolean> {
  const child = Bun.spawn(["sleep", "60"]);
  const thaw = freeze(child.pid);
  thaw?.();
  child.kill("SIGKILL");
  await child.exited;
  return thaw !== undefined;
}

describe.skipIf(!LINUX).each([1, 2])("a service, with %i workers,", (workers) => {
  const args = ["--workers", String(workers)];

  test.each(["path", "@name"])(
    "tells systemd, by a socket with a %s, that it is ready, reloads and stops",
    async (kind) => {
      using folder = new Folder();
      using origin = echoOrigin();
      using systemd = new NotifySocket(
        kind === "path" ? folder.path("notify") : `@tcpproxy ${crypto.randomUUID()}`,
      );
      const env = environment({ NOTIFY_SOCKET: systemd.name });
      await using run = await Run.proxy([origin.target], args, { env });
      const [ready] = await systemd.count("READY", 1);
      // All threads listen: whichever of them a connection reaches, it is served.
      expect(await Promise.all(Array.from({ length: 20 }, () => isServed(run.port)))).toEqual(
        Array(20).fill(true),
      );
      expect(ready!["STATUS"]).toBe(`Listening on 127.0.0.1:${run.port}; 0 connections open`);

      const client = await connect(run.port);
      expect(await echoes(client)).toBe(true);
      const asked = microseconds();
      run.child.kill("SIGHUP");
      await systemd.count("READY", 2);
      expect(systemd.states).toEqual(["READY", "RELOADING", "READY"]);
      const [reloading] = await systemd.count("RELOADING", 1);
      expect(BigInt(reloading!["MONOTONIC_USEC"]!)).toBeGreaterThanOrEqual(asked);
      expect(BigInt(reloading!["MONOTONIC_USEC"]!)).toBeLessThanOrEqual(microseconds());
      expect(reloading!["STATUS"]).toStartWith("Reading the configuration again; listening on 127.0.0.1:");

      run.child.kill("SIGTERM");
      const [stopping] = await systemd.count("STOPPING", 1);
      expect(stopping!["STATUS"]).toBe("Stopping; 1 connection open");
      // A reload that comes late does not say that it is ready again.
      run.child.kill("SIGHUP");
      await run.line("reloaded");
      await until(() => run.lines().filter(({ msg }) => msg === "reloaded").length === 2, "it has reloaded");
      client.close();
      expect(await run.exit()).toBe(0);
      expect(systemd.states).toEqual(["READY", "RELOADING", "READY", "STOPPING"]);
    },
  );

  test("tells systemd of a reload by a change of its file, and is ready again after one that is refused", async () => {
    using folder = new Folder();
    using origin = echoOrigin();
    using systemd = new NotifySocket(folder.path("notify"));
    for (const file of ["ca.crt", "server.crt", "key.pem"]) copyFileSync(certPath(file), folder.path(file));
    const written = (timeout: string) => `
timeout = "${timeout}"
workers = ${workers}
[listener]
address = "127.0.0.1:0"
ca = "ca.crt"
certificate = "server.crt"
privateKey = "key.pem"
[[upstreams]]
name = "test"
targets = ["${origin.target}"]
authorizedGroups = ["admin"]
`;
    const file = folder.path("proxy.toml");
    writeFileSync(file, written("60s"));
    const env = environment({ NOTIFY_SOCKET: systemd.name });
    await using run = await Run.start(["--config", file, "--log-format", "json"], { env });
    await systemd.count("READY", 1);
    writeFileSync(file, written("30s"));
    await systemd.count("READY", 2);
    writeFileSync(file, written("nonsense"));
    await systemd.count("READY", 3);
    expect(systemd.states).toEqual(["READY", "RELOADING", "READY", "RELOADING", "READY"]);
    await run.line("reloaded");
  });

  test("says nothing to systemd if it cannot start", async () => {
    using folder = new Folder();
    using systemd = new NotifySocket(folder.path("notify"));
    const env = environment({ NOTIFY_SOCKET: systemd.name });
    using taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    await using run = await Run.start(on(`127.0.0.1:${taken.port}`, "127.0.0.1:1", workers), { env });
    expect(await run.exit()).toBe(1);
    expect(systemd.states).toEqual([]);
    taken.stop(true);
  });

  test("gives a sign of life while its threads answer, and none to another process's watchdog", async () => {
    using folder = new Folder();
    using systemd = new NotifySocket(folder.path("notify"));
    const watchdog = { NOTIFY_SOCKET: systemd.name, WATCHDOG_USEC: "200000" };
    await using run = await Run.proxy(["127.0.0.1:1"], args, {
      env: environment(watchdog),
      before: "export WATCHDOG_PID=$$",
    });
    expect(await systemd.count("WATCHDOG", 5)).not.toBeEmpty();
    run.child.kill("SIGTERM");
    await run.exit();
    using other = new NotifySocket(folder.path("other"));
    const env = environment({ ...watchdog, NOTIFY_SOCKET: other.name, WATCHDOG_PID: "1" });
    await using second = await Run.proxy(["127.0.0.1:1"], args, { env });
    await other.count("READY", 1);
    second.child.kill("SIGHUP");
    await other.count("READY", 2);
    second.child.kill("SIGTERM");
    await second.exit();
    expect(other.messages.filter((each) => "WATCHDOG" in each)).toEqual([]);
  });

  test("serves clients on a socket that systemd has opened, and keeps it over a reload", async () => {
    using origin = echoOrigin();
    using web = new Passed();
    using other = new Passed();
    await using run = await Run.start(
      on("systemd:web", origin.target, workers),
      passing([other, web], "other:web"),
    );
    expect(await run.line("listening")).toMatchObject({ address: "systemd:web" });
    const clients = await Promise.all(Array.from({ length: 40 }, () => connect(web.port)));
    for (const client of clients) expect(await echoes(client)).toBe(true);
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    expect(run.lines().filter(({ msg }) => msg === "needs a restart")).toEqual([]);
    for (const client of clients) expect(await echoes(client)).toBe(true);
    expect(await Promise.all(Array.from({ length: 40 }, () => isServed(web.port)))).toEqual(
      Array(40).fill(true),
    );
    for (const client of clients) client.close();
    run.child.kill("SIGTERM");
    expect(await run.exit()).toBe(0);
  });

  test("changes the certificate of a socket of systemd, and names the socket's port to targets", async () => {
    using folder = new Folder();
    using origin = echoOrigin();
    using web = new Passed();
    for (const file of ["ca.crt", "server.crt", "key.pem"]) copyFileSync(certPath(file), folder.path(file));
    const file = folder.path("proxy.toml");
    writeFileSync(
      file,
      `
workers = ${workers}
watch = false
[listener]
address = "systemd:web"
ca = "ca.crt"
certificate = "server.crt"
privateKey = "key.pem"
[[upstreams]]
name = "test"
targets = ["${origin.target}"]
proxyProtocol = "v1"
authorizedGroups = ["admin"]
`,
    );
    await using run = await Run.start(["--config", file, "--log-format", "json"], passing([web], "web"));
    await run.line("listening");
    /** The server's certificate and the header that the target gets. */
    const look = async () => {
      const socket = connectTls({
        ...{ port: web.port, host: "127.0.0.1", rejectUnauthorized: false },
        ...{ cert: cert("alice.crt"), key: cert("key.pem") },
      });
      const [header] = (await once(socket, "data")) as [Buffer];
      const found = { name: socket.getPeerCertificate().subjectaltname, header: header.toString() };
      socket.destroy();
      return found;
    };
    const before = await look();
    expect(before.header).toMatch(new RegExp(`^PROXY TCP4 127.0.0.1 127.0.0.1 \\d+ ${web.port}\r\n`));
    copyFileSync(certPath("server-named.crt"), folder.path("server.crt"));
    run.child.kill("SIGHUP");
    await run.line("reloaded");
    const after = await look();
    expect(after.name).not.toEqual(before.name);
    expect(after.header).toStartWith("PROXY TCP4 ");
  });

  test("leaves clients on a socket of systemd to the next process", async () => {
    using origin = echoOrigin();
    using web = new Passed();
    const args = on("systemd:web", origin.target, workers);
    await using first = await Run.start(args, passing([web], "web"));
    await first.line("listening");
    expect(await isServed(web.port)).toBe(true);
    first.child.kill("SIGTERM");
    expect(await first.exit()).toBe(0);
    const waiting = isServed(web.port);
    await using second = await Run.start(args, passing([web], "web"));
    await second.line("listening");
    expect(await waiting).toBe(true);
  });

  test.each<[string, "tcp" | "udp" | "unix" | "silent", number, string, string]>([
    [
      "no socket of its name",
      "tcp",
      1,
      "other",
      'systemd has passed no socket of this name; it has passed "other"',
    ],
    [
      "two sockets of its name",
      "tcp",
      2,
      "web:web",
      "systemd has passed 2 sockets of this name; give each a FileDescriptorName of its own",
    ],
    ["a UDP socket", "udp", 1, "web", "the socket is not for TCP"],
    ["a Unix socket", "unix", 1, "web", "the socket is not for TCP"],
    ["a socket that does not listen", "silent", 1, "web", "the socket does not listen"],
  ])("does not start with %s, and says so in one line", async (_, kind, count, names, why) => {
    const sockets = Array.from({ length: count }, () => new Passed(kind));
    await using run = await Run.start(on("systemd:web", "127.0.0.1:1", workers), passing(sockets, names));
    expect(await run.exit()).toBe(1);
    expect(run.stderr).toBe(`proxy: cannot listen on systemd:web: ${why}\n`);
    for (const socket of sockets) socket[Symbol.dispose]();
  });

  test("does not take sockets that systemd has opened for another process", async () => {
    using web = new Passed();
    const given = passing([web], "web");
    await using run = await Run.start(on("systemd:web", "127.0.0.1:1", workers), {
      ...given,
      before: "export LISTEN_PID=1",
    });
    expect(await run.exit()).toBe(1);
    expect(run.stderr).toBe(
      "proxy: cannot listen on systemd:web: systemd has passed no socket to this process\n",
    );
  });

  test.skipIf(Bun.which("systemd-socket-activate") === null)(
    "is started by systemd-socket-activate",
    async () => {
      using origin = echoOrigin();
      const port = freePort();
      const command = ["systemd-socket-activate", "-E", "PATH", "-l", `127.0.0.1:${port}`, "--fdname=web"];
      const child = Bun.spawn([...command, await binary(), ...on("systemd:web", origin.target, workers)], {
        stdout: "ignore",
        stderr: "pipe",
        cwd: import.meta.dir,
      });
      // It starts the proxy at the first connection.
      const reader = child.stderr.getReader();
      let said = "";
      while (!said.includes("Listening on")) {
        const { done, value } = await reader.read();
        if (done) throw new Error(said);
        said += new TextDecoder().decode(value);
      }
      expect(await isServed(port)).toBe(true);
      child.kill("SIGTERM");
      while (!(await reader.read()).done);
      expect(await child.exited).toBe(0);
    },
  );
});

test.skipIf(!canFreeze)("the signs of life end while a worker hangs, and go on after it", async () => {
  using folder = new Folder();
  using systemd = new NotifySocket(folder.path("notify"));
  const env = environment({ NOTIFY_SOCKET: systemd.name, WATCHDOG_USEC: "100000" });
  await using run = await Run.proxy(["127.0.0.1:1"], ["--workers", "2"], { env });
  await systemd.count("WATCHDOG", 3);
  const tasks = `/proc/${run.child.pid}/task`;
  const threads = readdirSync(tasks).filter(
    (id) => readFileSync(`${tasks}/${id}/comm`, "utf8") === "Worker\n",
  );
  expect(threads).toHaveLength(2);
  const thaw = freeze(Number(threads[1]))!;
  await until(
    () => /State:\s+t/.test(readFileSync(`${tasks}/${threads[1]}/status`, "utf8")),
    "the thread has stopped",
  );
  // An answer from before may still be on its way. The rest of the proxy runs: it hears of a change of state.
  const beats = () => systemd.messages.filter((each) => "WATCHDOG" in each).length;
  const before = beats();
  await Bun.sleep(1_000);
  expect(beats()).toBeLessThanOrEqual(before + 1);
  thaw();
  await systemd.count("WATCHDOG", before + 5);
});

test("a proxy that systemd has not started needs nothing of it", async () => {
  using origin = echoOrigin();
  await using run = await Run.proxy([origin.target], [], { env: environment({ WATCHDOG_USEC: "1000" }) });
  expect(await isServed(run.port)).toBe(true);
});
