// Runs another program in the foreground and ends as it does.

import { constants } from "node:os";
import { codeOf, quote, StartError } from "../lib/errors.ts";

/** What shells answer for a program that a signal ended: this, and the signal's number. */
const SIGNALLED = 128;

/** A program that runs. */
export interface Child {
  /** Its exit code, as a shell would give it. */
  readonly exited: Promise<number>;
  /** Passes a signal on. */
  kill(signal: NodeJS.Signals): void;
}

/** @throws StartError where it cannot be started */
export function runChild(command: readonly string[]): Child {
  const start = () => {
    try {
      return Bun.spawn([...command], { stdin: "inherit", stdout: "inherit", stderr: "inherit" });
    } catch (error) {
      const why = codeOf(error as Error) === "ENOENT" ? "there is no such program" : (error as Error).message;
      throw new StartError(`cannot run ${quote(command[0])}: ${why}`);
    }
  };
  const child = start();
  const exited = child.exited.then((code) => {
    const { signalCode } = child;
    return signalCode === null ? code : SIGNALLED + constants.signals[signalCode as NodeJS.Signals];
  });
  return { exited, kill: (signal) => child.kill(signal) };
}
