// Real servers that a test puts behind the proxy, each on 127.0.0.1 and a port that is free. A program that is missing is undefined
// here, and its tests are skipped.

import { Glob } from "bun";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { freePort } from "./free-port.ts";
import { connectPlain } from "./peer.ts";

const ROOT = userInfo().uid === 0;

/** A server that runs. Leaving the scope ends it. */
export interface Service extends AsyncDisposable {
  readonly port: number;
  readonly target: string;
  /** Where it keeps its files. */
  readonly folder: string;
}

const found = (name: string, path = Bun.env.PATH ?? "") => Bun.which(name, { PATH: path }) ?? undefined;

export const redisServer = found("redis-server");
export const redisCli = found("redis-cli");
export const psql = found("psql");
export const sshd = found("sshd", "/usr/sbin:/usr/local/sbin:/sbin");
export const ssh = found("ssh");

const [bin] = [...new Glob("/usr/lib/postgresql/*/bin/initdb").scanSync("/")].sort().reverse();
/** The folder of PostgreSQL's programs; the server does not run as root, so that another user is needed then. */
export const postgres =
  bin === undefined || (ROOT && (found("runuser") === undefined || postgresUser() === undefined))
    ? undefined
    : bin.slice(0, bin.lastIndexOf("/"));

function postgresUser(): { uid: number; gid: number } | undefined {
  const ask = (flag: string) =>
    Number(Bun.spawnSync(["id", flag, "postgres"]).stdout.toString().trim() || NaN);
  const [uid, gid] = [ask("-u"), ask("-g")];
  return Number.isNaN(uid) ? undefined : { uid, gid };
}

async function start(folder: string, port: number, command: string[]): Promise<Service> {
  const child = Bun.spawn(command, { cwd: folder, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const said = new Response(child.stderr).text();
  const end = async () => {
    // PostgreSQL ends at once with SIGINT, and takes its processes with it.
    child.kill("SIGINT");
    const late = setTimeout(() => child.kill("SIGKILL"), 5_000);
    await child.exited;
    clearTimeout(late);
    rmSync(folder, { recursive: true, force: true });
  };
  for (let tries = 0; ; tries++) {
    try {
      const peer = await connectPlain(port);
      peer.reset();
      break;
    } catch {
      if (child.exitCode !== null || tries > 400) {
        await end();
        throw new Error(`${command[0]} does not listen: ${await said}`);
      }
      await Bun.sleep(25);
    }
  }
  return { port, target: `127.0.0.1:${port}`, folder, [Symbol.asyncDispose]: end };
}

const newFolder = () => mkdtempSync(`${tmpdir()}/tcpproxy-service-`);

export async function startRedis(): Promise<Service> {
  const [folder, port] = [newFolder(), freePort()];
  return start(folder, port, [redisServer!, "--port", String(port), "--bind", "127.0.0.1", "--save", ""]);
}

export async function startPostgres(): Promise<Service> {
  const [folder, port] = [newFolder(), freePort()];
  const as = ROOT ? ["runuser", "-u", "postgres", "--"] : [];
  if (ROOT) {
    const { uid, gid } = postgresUser()!;
    chownSync(folder, uid, gid);
  }
  const made = Bun.spawnSync(
    [...as, `${postgres}/initdb`, "-D", `${folder}/data`, "-U", "postgres", "-A", "trust", "--no-sync"],
    { cwd: folder, stdout: "ignore", stderr: "pipe" },
  );
  if (made.exitCode !== 0) throw new Error(`initdb: ${made.stderr}`);
  const options = ["-c", "listen_addresses=127.0.0.1", "-k", folder, "-c", "fsync=off"];
  const service = await start(folder, port, [
    ...as,
    `${postgres}/postgres`,
    "-D",
    `${folder}/data`,
    "-p",
    String(port),
    ...options,
  ]);
  // It listens before it is ready, and refuses queries with an error meanwhile.
  const ask = [`${postgres}/pg_isready`, "-q", "-h", "127.0.0.1", "-p", String(port)];
  for (let tries = 0; tries < 400 && Bun.spawnSync(ask).exitCode !== 0; tries++) await Bun.sleep(25);
  return service;
}

/** An ssh server that lets the user of this process in, with `folder/key`. */
export async function startSshd(): Promise<Service> {
  const [folder, port] = [newFolder(), freePort()];
  for (const name of ["host", "key"]) {
    const made = Bun.spawnSync(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", `${folder}/${name}`]);
    if (made.exitCode !== 0) throw new Error(`ssh-keygen: ${made.stderr}`);
  }
  await Bun.write(`${folder}/authorized`, Bun.file(`${folder}/key.pub`));
  chmodSync(`${folder}/authorized`, 0o600);
  if (ROOT) mkdirSync("/run/sshd", { recursive: true });
  await Bun.write(
    `${folder}/sshd_config`,
    [
      `Port ${port}`,
      "ListenAddress 127.0.0.1",
      `HostKey ${folder}/host`,
      `AuthorizedKeysFile ${folder}/authorized`,
      `PidFile ${folder}/pid`,
      "PasswordAuthentication no",
      "PermitRootLogin yes",
      "StrictModes no",
      "UsePAM no",
      "",
    ].join("\n"),
  );
  return start(folder, port, [sshd!, "-D", "-e", "-f", `${folder}/sshd_config`]);
}
