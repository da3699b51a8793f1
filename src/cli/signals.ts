// Handles signals: some stop a command, others are caught so that they do not end the process.

import type { Logger } from "../lib/log.ts";

/**
 * Signals that other servers use for "rotate the log" or "upgrade", or that timers send, and that end a process without
 * a handler. The list leaves out signals that stop a job (TSTP, TTIN, TTOU), because a terminal must be able to send
 * them, and those that the runtime reserves (PIPE, PWR) or cannot catch (real-time signals).
 */
const IGNORED = ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO"] as const;

export function ignoreSignals(log: Logger): void {
  for (const signal of IGNORED) process.on(signal, () => log.warn("signal ignored", { signal }));
}

/** Calls `reload` at each SIGHUP. */
export function onHangup(reload: () => void): void {
  process.on("SIGHUP", reload);
}

/**
 * Calls `stop` at each signal that stops a command, and resolves with the first result. A second signal tells `stop` to
 * hurry and makes the run fail.
 */
export function onStop(stop: (again: boolean) => Promise<{ cut: number }>): Promise<{ cut: number }> {
  return new Promise((done, fail) => {
    let signals = 0;
    const stopping = () => {
      signals++;
      stop(signals > 1).then((result) => done(signals > 1 ? { cut: Math.max(1, result.cut) } : result), fail);
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGQUIT"] as const) process.on(signal, stopping);
  });
}

/** Resolves at the first signal that ends a command which has nothing to bring to its end. */
export function onFirstStop(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP"] as const)
      process.on(signal, () => resolve());
  });
}
