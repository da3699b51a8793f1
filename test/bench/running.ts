// A peer that runs.

import { mkdirSync, readFileSync } from "node:fs";
import { freePort } from "../support/free-port.ts";
import type { Peer, Setup } from "./peers.ts";
import { kill, remember } from "./processes.ts";

/** A peer that accepts connections. */
export interface Running {
  readonly peer: Peer;
  readonly pid: number;
  readonly port: number;
  /** Its configuration files. */
  readonly folder: string;
  /** When it was started, by `performance.now()`. */
  readonly began: number;
  /** Milliseconds from then to the first connection that was accepted. */
  readonly listening: number;
  stop(): Promise<void>;
}

/** None takes as long. */
const DEADLINE_MS = 10_000;

/** Starts a peer and waits until it accepts. `scratch` is for a folder of its own, `env` is added to the environment. */
export async function start(
  peer: Peer,
  setup: Omit<Setup, "port" | "folder">,
  scratch: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Running> {
  const port = freePort();
  const folder = `${scratch}/${peer.name}-${port}`;
  mkdirSync(folder);
  const { args, files } = peer.command({ ...setup, port, folder });
  for (const [name, text] of Object.entries(files)) await Bun.write(`${folder}/${name}`, text);
  const said = `${folder}/stderr`;
  const began = performance.now();
  const child = remember(
    Bun.spawn([peer.program!, ...args], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: Bun.file(said),
      env: { ...process.env, ...env },
    }),
  );
  for (;;) {
    try {
      (await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } })).terminate();
      break;
    } catch {
      if (child.exitCode !== null || performance.now() - began > DEADLINE_MS)
        throw new Error(`${peer.name} does not accept: ${readFileSync(said, "utf8")}`);
      await Bun.sleep(1);
    }
  }
  return {
    peer,
    pid: child.pid,
    port,
    folder,
    began,
    listening: performance.now() - began,
    async stop() {
      kill(child.pid);
      await child.exited;
    },
  };
}
