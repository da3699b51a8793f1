// Standard error, the destination of the log. When its reader stalls or exits, the proxy continues.

import { constants, openSync, writeSync } from "node:fs";
import { Backlog } from "./backlog.ts";

/** How long to wait at most for the reader at the end, in milliseconds. */
const FLUSH_WAIT_MS = 2_000;

/** How often to retry a terminal that takes no more, in milliseconds. */
const RETRY_MS = 50;

let backlog: Backlog | undefined;
/** The reader has exited: the proxy still carries connections, and does not wait at the end. */
let gone = false;
let report: (dropped: number) => string = () => "";
let reported = 0;

/** @param line returns the line that says how many lines were dropped */
export function onDropped(line: (dropped: number) => string): void {
  report = line;
}

/** Lines dropped so far, as far as a line has said so. */
export function linesDropped(): number {
  return reported;
}

/** Writes a line, keeps it, or drops it; never waits. */
export function writeToStderr(line: string): void {
  backlog ??= open();
  backlog.write(line);
}

/** Waits until standard error has taken all lines, two seconds at most. */
export async function flushLog(): Promise<void> {
  const flushed = async () => {
    while (backlog?.empty === false && !gone) await Bun.sleep(10);
    if (!gone) await new Promise<void>((done) => process.stderr.end(done));
  };
  await Promise.race([flushed(), Bun.sleep(FLUSH_WAIT_MS)]);
}

function open(): Backlog {
  const made = new Backlog(
    openTerminal(() => made.drained()) ?? ((line) => gone || process.stderr.write(line)),
    (dropped) => {
      reported += dropped;
      return report(dropped);
    },
  );
  process.stderr.on("drain", () => made.drained());
  process.stderr.on("error", ({ code }: NodeJS.ErrnoException) => {
    gone ||= code === "EPIPE";
    // After another error, such as a full disk, the next line may succeed.
    setImmediate(() => made.drained());
  });
  return made;
}

/**
 * Opens the terminal anew: the runtime blocks on terminals. An own descriptor does not block, and leaves the shared one
 * unchanged. (Files would start at their beginning, and sockets cannot be reopened; the runtime blocks on neither.)
 * @returns undefined if there is no terminal, or if it cannot be opened
 */
function openTerminal(drained: () => void): ((line: string) => boolean) | undefined {
  if (!process.stderr.isTTY) return undefined;
  let fd: number;
  try {
    fd = openSync("/proc/self/fd/2", constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return undefined;
  }
  const take = (bytes: Uint8Array): boolean => {
    try {
      while (bytes.length > 0) bytes = bytes.subarray(writeSync(fd, bytes));
    } catch (error) {
      // Any other error: the terminal is gone, and the line has no reader.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return true;
      setTimeout(() => take(bytes) && drained(), RETRY_MS);
      return false;
    }
    return true;
  };
  return (line) => take(Buffer.from(line));
}
