// A real program that a test starts with files of its own, and that listens on a port of 127.0.0.1.

import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename } from "node:path";
import { freePort } from "./free-port.ts";
import { connectPlain } from "./peer.ts";

/** A running program. It is ended at the end of the scope. */
export interface Running extends AsyncDisposable {
  /** A port of 127.0.0.1 that the system picked. */
  readonly port: number;
  readonly target: string;
}

/** Starts it in the foreground, and waits until it listens. */
export async function runProgram(
  path: string,
  setup: (folder: string, port: number) => { files: Record<string, string>; args: string[] },
): Promise<Running> {
  const name = basename(path);
  const folder = mkdtempSync(`${tmpdir()}/tcpproxy-${name}-`);
  const port = freePort();
  const { files, args } = setup(folder, port);
  for (const [file, text] of Object.entries(files)) await Bun.write(`${folder}/${file}`, text);
  const child = Bun.spawn([path, ...args], { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const running: Running = {
    port,
    target: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      // Not SIGKILL: Varnish has a second process, which it ends on SIGTERM.
      child.kill("SIGTERM");
      await child.exited;
      await rm(folder, { recursive: true });
    },
  };
  for (;;) {
    try {
      (await connectPlain(port)).reset();
      return running;
    } catch {
      if (child.exitCode !== null) {
        await running[Symbol.asyncDispose]();
        throw new Error(`${name} ended: ${await new Response(child.stderr).text()}`);
      }
      await Bun.sleep(5);
    }
  }
}
