// The built binary as a black box: built once for each state of the sources, run as a user runs it, observed from outside.

import { Glob } from "bun";
import { mkdirSync, readFileSync, readdirSync, renameSync } from "node:fs";
import { certPath } from "./peer.ts";
import { until, type Line } from "./proxy.ts";

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

/** The certificates of test/certs, as flags. */
export const CERTIFICATE_FLAGS: readonly string[] = [
  ...["--ca", certPath("ca.crt")],
  ...["--cert", certPath("server.crt")],
  ...["--key", certPath("key.pem")],
];

/** Builds the binary with build.ts, unless the same sources have been built before. Returns its path. */
export async function binary(): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  const sources = [
    ...new Glob("{src,certs}/**/*.{ts,md,html,css,js}").scanSync(ROOT),
    "build.ts",
    "package.json",
    "bun.lock",
  ].sort();
  for (const path of sources) hash.update(`${path}\0${readFileSync(`${ROOT}/${path}`)}\0`);
  const path = `${ROOT}/out/test/proxy-${hash.digest("hex").slice(0, 16)}`;
  if (await Bun.file(path).exists()) return path;
  // Test files run side by side: each may build, and the last one to finish replaces the file of the others.
  mkdirSync(`${ROOT}/out/test`, { recursive: true });
  const mine = `${path}.${process.pid}`;
  const build = Bun.spawnSync([process.execPath, "build.ts", "--outfile", mine], {
    cwd: ROOT,
    stderr: "pipe",
  });
  if (build.exitCode !== 0) throw new Error(`the build failed: ${build.stderr}`);
  renameSync(mine, path);
  return path;
}

/** How to start a {@link Run}. */
export interface RunOptions {
  cwd?: string;
  env?: Record<string, string>;
  /** Shell commands to run before, in the same process: limits, for example. */
  before?: string;
  /** Descriptors that it has from 3 on. */
  descriptors?: readonly number[];
}

/** A running binary. It is killed at the end of the scope. */
export class Run implements AsyncDisposable {
  /** The number of worker threads of a proxy, unless a test sets it. */
  static workers = 1;

  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly stdout: Promise<string>;
  stderr = "";
  #reading: Promise<void>;

  private constructor(path: string, args: string[], options: RunOptions) {
    const command = options.before
      ? ["sh", "-c", `${options.before}; exec "$@"`, "sh", path, ...args]
      : [path, ...args];
    const child = Bun.spawn(command, {
      cwd: options.cwd ?? ROOT,
      env: options.env ?? { PATH: Bun.env.PATH ?? "" },
      stdio: ["ignore", "pipe", "pipe", ...(options.descriptors ?? [])],
    });
    this.child = child;
    this.stdout = new Response(child.stdout).text();
    this.#reading = (async () => {
      const decoder = new TextDecoder();
      for await (const chunk of child.stderr) this.stderr += decoder.decode(chunk, { stream: true });
    })();
  }

  static async start(args: string[], options: RunOptions = {}): Promise<Run> {
    return new Run(await binary(), args, options);
  }

  /** A proxy on a port that the system picks, in front of these targets, with a JSON log. */
  static async proxy(
    targets: string[],
    args: string[] = [],
    options: RunOptions = {},
  ): Promise<Run & { port: number }> {
    const run = await Run.start(
      [
        "127.0.0.1:0",
        "--targets",
        targets.join(","),
        "--log-format",
        "json",
        "--capacity",
        "1000000",
        "--fill-rate",
        "1ms",
        ...(args.includes("--workers") ? [] : ["--workers", String(Run.workers)]),
        ...CERTIFICATE_FLAGS,
        ...args,
      ],
      options,
    );
    return Object.assign(run, { port: await run.port() });
  }

  /** Waits until the proxy listens, and returns its port. */
  async port(): Promise<number> {
    const address = String((await this.line("listening"))["address"]);
    return Number(address.slice(address.lastIndexOf(":") + 1));
  }

  /** Lines of the JSON log so far. A line that counts several events is repeated as often. */
  lines(): Line[] {
    return this.written().flatMap((line) => Array<Line>(Number(line["count"] ?? 1)).fill(line));
  }

  /** Lines of the JSON log so far, each once. */
  written(): Line[] {
    return this.stderr
      .split("\n")
      .slice(0, -1)
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Line);
  }

  async line(msg: string, reason?: string): Promise<Line> {
    const find = () =>
      this.lines().find((line) => line.msg === msg && (reason === undefined || line.reason === reason));
    await until(() => find() !== undefined || this.child.exitCode !== null, `the log says "${msg}"`);
    const line = find();
    if (line === undefined) throw new Error(`it ended with ${this.child.exitCode}: ${this.stderr}`);
    return line;
  }

  /** Waits until the process has exited and all its output has been read. Returns the exit code. */
  async exit(): Promise<number> {
    const code = await this.child.exited;
    await this.#reading;
    return code;
  }

  get descriptors(): number {
    return readdirSync(`/proc/${this.child.pid}/fd`).length;
  }

  /** Resident memory in bytes. */
  get memory(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, "utf8"))![1]) * 1_024;
  }

  /** CPU time so far, user and system, in milliseconds. */
  get cpu(): number {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  async [Symbol.asyncDispose]() {
    this.child.kill("SIGKILL");
    await this.exit();
  }
}
