// Where a benchmark ran, and what on.

import { cpus, release } from "node:os";
import type { Peer } from "./peers.ts";

/** What one needs to know to compare two runs. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
  /** The most that a process may have open. */
  readonly descriptors: number;
}

/** This one. */
export function thisMachine(): Machine {
  const { userLimits } = process.report!.getReport() as { userLimits: { open_files: { soft: number } } };
  return {
    cpu: cpus()[0]?.model ?? "?",
    cores: cpus().length,
    kernel: `Linux ${release()}`,
    descriptors: Number(userLimits.open_files.soft),
  };
}

/** The version of each peer, of Bun and of openssl, by name. */
export function versionsOf(peers: readonly Peer[]): Record<string, string> {
  const ask = (command: string[]) => {
    const { stdout, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
    return /\d+\.\d+[\w.+-]*/.exec(`${stdout}${stderr}`)?.[0] ?? "?";
  };
  return {
    ...Object.fromEntries(
      peers.map(({ name, program, version }) => [name, ask([program!, ...version])] as const),
    ),
    bun: Bun.version,
    openssl: ask(["openssl", "version"]),
  };
}
