// What the built proxy can do, found by asking it: the benchmark runs on binaries of several ages, to compare them.

/** What not every proxy can do. */
export interface Features {
  /** Resume sessions, and be told not to. */
  readonly tickets: boolean;
  /** Run on so many threads or processes. */
  readonly workers: boolean;
  /** Share limits with others through a Redis, one question for each connection. */
  readonly fleet: boolean;
  /** Show metrics and a door for operators. */
  readonly watched: boolean;
}

/** Asks the binary; `certs` is a folder with certificates, `scratch` one to write to. */
export async function featuresOf(program: string, certs: string, scratch: string): Promise<Features> {
  const listener = {
    ca: `${certs}/ca.crt`,
    certificate: `${certs}/server.crt`,
    privateKey: `${certs}/server.key`,
  };
  const upstreams = [{ name: "one", targets: ["127.0.0.1:1"], authorizedGroups: ["bench"] }];
  const config = async (name: string, more: object, rest: object = {}) => {
    const path = `${scratch}/${name}.json`;
    await Bun.write(path, JSON.stringify({ listener: { ...listener, ...more }, upstreams, ...rest }));
    return ["--config", path];
  };
  return {
    tickets: knows(program, await config("tickets", { sessionTickets: false })),
    workers: knows(program, [...(await config("workers", {})), "--workers", "2"]),
    watched: knows(
      program,
      await config("watched", {}, { metrics: { address: "127.0.0.1:0" }, admin: { socket: `${scratch}/a` } }),
    ),
    fleet: knows(program, await config("fleet", {}, { fleet: { store: "redis://127.0.0.1:1" } })),
  };
}

function knows(program: string, args: readonly string[]): boolean {
  const { exitCode, stderr } = Bun.spawnSync([program, "check", ...args], { stderr: "pipe" });
  if (exitCode === 0) return true;
  if (/unknown (key|flag)/.test(stderr.toString())) return false;
  throw new Error(`${program} check: ${stderr}`);
}
