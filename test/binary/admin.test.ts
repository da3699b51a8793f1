// The admin socket of the binary, from outside: its place in the file system, and asking through it.

import { describe, expect, test } from "bun:test";
import { chmodSync, lstatSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { askSocket, change, SocketFolder } from "../support/admin.ts";
import { Run } from "../support/binary.ts";
import { certPath } from "../support/peer.ts";

/** A configuration file with an admin socket. */
function configure(folder: SocketFolder, socket = folder.socket, workers = 1): string[] {
  const file = folder.path("proxy.json");
  const config = {
    workers,
    admin: { socket },
    listener: {
      address: "127.0.0.1:0",
      ca: certPath("ca.crt"),
      certificate: certPath("server.crt"),
      privateKey: certPath("key.pem"),
    },
    upstreams: [{ name: "test", targets: ["127.0.0.1:1"], authorizedGroups: ["admin"] }],
  };
  writeFileSync(file, JSON.stringify(config));
  return ["--config", file, "--log-format", "json"];
}

/** How the binary ends that cannot start: its exit code and what it says. */
async function refusal(args: string[]): Promise<[number, string]> {
  await using run = await Run.start(args);
  const code = await run.exit();
  // No port was opened before.
  expect(run.stderr).not.toContain('"listening"');
  return [code, run.stderr];
}

describe.each([1, 2])("with %i workers", (workers) => {
  test("the socket has mode 0600 whatever the umask, and files made later have the umask's", async () => {
    using folder = new SocketFolder();
    await using run = await Run.start(configure(folder, folder.socket, workers), { before: "umask 000" });
    await run.port();
    expect(lstatSync(folder.socket).mode & 0o777).toBe(0o600);
    const { json } = await askSocket(folder.socket, "/v1/status");
    expect(json).toMatchObject({ phase: "running", pid: run.child.pid, runtime: `bun ${Bun.version}` });
    expect(json.configFile).toBe(folder.path("proxy.json"));
    expect(json.threads).toHaveLength(workers);
    const status = readFileSync(`/proc/${run.child.pid}/status`, "utf8");
    expect(/Umask:\s+(\d+)/.exec(status)?.[1]).toBe("0000");
  });

  test("a reload by the socket is answered, and logged with the user who asked", async () => {
    using folder = new SocketFolder();
    await using run = await Run.start(configure(folder, folder.socket, workers));
    await run.port();
    expect((await askSocket(folder.socket, "/v1/reload", change())).status).toBe(200);
    const line = await run.line("admin");
    expect(line).toMatchObject({ action: "reload", result: "ok", actor: `uid ${process.getuid?.()}` });
  });

  test("a proxy that was killed leaves a socket, and the next one takes its place", async () => {
    using folder = new SocketFolder();
    const args = configure(folder, folder.socket, workers);
    {
      await using run = await Run.start(args);
      await run.port();
    }
    expect(lstatSync(folder.socket).isSocket()).toBe(true);
    await using run = await Run.start(args);
    await run.port();
    expect((await askSocket(folder.socket, "/v1/status")).json.pid).toBe(run.child.pid);
    run.child.kill("SIGTERM");
    expect(await run.exit()).toBe(0);
    expect(() => statSync(folder.socket)).toThrow("ENOENT");
  });
});

test("a second proxy on the same socket says so in one line, and the first one keeps it", async () => {
  using folder = new SocketFolder();
  const args = configure(folder);
  await using run = await Run.start(args);
  await run.port();
  expect(await refusal(args)).toEqual([
    1,
    `proxy: cannot open the admin socket "${folder.socket}": another process listens there\n`,
  ]);
  expect((await askSocket(folder.socket, "/v1/status")).json.pid).toBe(run.child.pid);
});

test("a file in the socket's place is left alone, with one line", async () => {
  using folder = new SocketFolder();
  writeFileSync(folder.socket, "precious");
  const [code, text] = await refusal(configure(folder));
  expect([code, text.split("\n").length]).toEqual([1, 2]);
  expect(text).toContain("something that is not a socket is there");
  expect(readFileSync(folder.socket, "utf8")).toBe("precious");
});

test("a folder that others may write to is refused with one line", async () => {
  using folder = new SocketFolder();
  const open = folder.path("open");
  mkdirSync(open);
  chmodSync(open, 0o777);
  const [code, text] = await refusal(configure(folder, `${open}/admin.sock`));
  expect([code, text.split("\n").length]).toEqual([1, 2]);
  expect(text).toContain("others may write to its folder (mode 777)");
});

test("a path that is too long, and one in a folder that is missing, is refused with one line", async () => {
  using folder = new SocketFolder();
  for (const [path, why] of [
    [folder.path("a".repeat(120)), "the system takes 107 at most"],
    [folder.path("missing/admin.sock"), "there is no folder"],
  ] as const) {
    const [code, text] = await refusal(configure(folder, path));
    expect([code, text.split("\n").length]).toEqual([1, 2]);
    expect(text).toContain(why);
  }
});
