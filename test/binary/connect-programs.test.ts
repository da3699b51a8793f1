// Real programs through `proxy connect` and a proxy, both the compiled binary, to real servers.

import { expect, test } from "bun:test";
import { binary, Run } from "../support/binary.ts";
import { certPath } from "../support/peer.ts";
import {
  postgres,
  psql,
  redisCli,
  redisServer,
  ssh,
  sshd,
  startPostgres,
  startRedis,
  startSshd,
} from "../support/services.ts";

const CERTS = ["--ca", certPath("ca.crt"), "--cert", certPath("alice.crt"), "--key", certPath("key.pem")];
const ARGS = [...CERTS, "--log-level", "error"];

async function run(command: string[], env: Record<string, string> = {}, stdin = "") {
  const child = Bun.spawn(command, {
    stdin: Buffer.from(stdin),
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: Bun.env.PATH ?? "", ...env },
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { code: await child.exited, out, err };
}

test.skipIf(redisServer === undefined || redisCli === undefined)(
  "redis-cli speaks with redis-server through a tunnel, on a port and on a Unix socket",
  async () => {
    await using redis = await startRedis();
    await using proxy = await Run.proxy([redis.target], ["--groups", "admin"]);
    const through = [await binary(), "connect", `localhost:${proxy.port}`, ...ARGS];
    const cli = [redisCli!, "-h", "{host}", "-p", "{port}"];
    expect(await run([...through, "--", ...cli, "SET", "greeting", "hello"])).toEqual({
      code: 0,
      out: "OK\n",
      err: "",
    });
    const unix = `unix:${redis.folder}/tunnel.sock`;
    const socket = [...through, "--listen", unix, "--", redisCli!, "-s", "{host}", "GET", "greeting"];
    expect(await run(socket)).toEqual({ code: 0, out: "hello\n", err: "" });
    const big = "x".repeat(4 * 2 ** 20);
    expect((await run([...through, "--", ...cli, "-x", "SET", "big"], {}, big)).out).toBe("OK\n");
    expect((await run([...through, "--", ...cli, "GET", "big"])).out).toBe(`${big}\n`);
  },
);

test.skipIf(postgres === undefined || psql === undefined)(
  "psql queries PostgreSQL through a tunnel, and its exit code is the tunnel's",
  async () => {
    await using server = await startPostgres();
    await using proxy = await Run.proxy([server.target], ["--groups", "admin"]);
    const through = [await binary(), "connect", `localhost:${proxy.port}`, ...ARGS, "--"];
    const client = [psql!, "-h", "{host}", "-p", "{port}", "-U", "postgres", "-X", "-A", "-t", "-c"];
    const env = { PGSSLMODE: "disable" };
    const rows = await run([...through, ...client, "SELECT sum(n) FROM generate_series(1, 100000) n"], env);
    expect(rows).toEqual({ code: 0, out: "5000050000\n", err: "" });
    const wide = await run([...through, ...client, "SELECT repeat('x', 5000000)"], env);
    expect(wide.out).toHaveLength(5_000_001);
    expect((await run([...through, ...client, "SELECT no_such_column"], env)).code).toBe(1);
  },
);

test.skipIf(sshd === undefined || ssh === undefined)(
  "ssh runs commands and moves bytes through a tunnel that is its ProxyCommand",
  async () => {
    await using server = await startSshd();
    await using proxy = await Run.proxy([server.target], ["--groups", "admin"]);
    const command = [await binary(), "connect", `%h:%p`, ...ARGS, "--stdio"].join(" ");
    const options = [
      `ProxyCommand=${command}`,
      "BatchMode=yes",
      "StrictHostKeyChecking=no",
      `UserKnownHostsFile=${server.folder}/known`,
      "LogLevel=ERROR",
    ].flatMap((option) => ["-o", option]);
    const login = [
      "-F",
      "none",
      "-i",
      `${server.folder}/key`,
      "-p",
      String(proxy.port),
      "-l",
      Bun.spawnSync(["id", "-un"]).stdout.toString().trim(),
    ];
    const remote = (...words: string[]) => [ssh!, ...options, ...login, "localhost", ...words];
    expect(await run(remote("echo", "hello"))).toEqual({ code: 0, out: "hello\n", err: "" });
    expect((await run(remote("exit", "7"))).code).toBe(7);
    const data = "0123456789abcdef".repeat(2 ** 18);
    const hash = new Bun.CryptoHasher("sha256").update(data).digest("hex");
    expect((await run(remote("sha256sum"), {}, data)).out).toBe(`${hash}  -\n`);
    expect((await run(remote("cat"), {}, data)).out).toBe(data);
  },
);
