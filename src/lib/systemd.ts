// What systemd tells a service in its environment, and what a service tells systemd: sd_notify(3), sd_watchdog_enabled(3),
// sd_listen_fds_with_names(3).

import { libcNow, messenger, ownListener, systemMicroseconds } from "./libc.ts";

/** The environment of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The first descriptor that systemd passes. */
const FIRST_FD = 3;

/** More descriptors than any unit passes. */
const MAX_FDS = 10_000;

/** Longer names do not fit into a socket's address (sockaddr_un, unix(7)). */
const MAX_NAME_BYTES = 107;

/** The socket that systemd listens on: a path or, with `@` in front, a name. undefined if it does not listen. */
export function notifySocket({ NOTIFY_SOCKET: name = "" }: Environment): string | undefined {
  return /^[/@][^\0]+$/.test(name) && Buffer.byteLength(name) <= MAX_NAME_BYTES ? name : undefined;
}

/** Milliseconds within which systemd wants a sign of life; undefined if it wants none from this process. */
export function watchdogTime(env: Environment, pid: number): number | undefined {
  const { WATCHDOG_USEC: time, WATCHDOG_PID: process } = env;
  const microseconds = numberIn(time);
  if (process !== undefined && numberIn(process) !== pid) return undefined;
  return microseconds === undefined || microseconds === 0 ? undefined : microseconds / 1_000;
}

/** The descriptors of the sockets that systemd has opened for this process, by their names. */
export function passedSockets(env: Environment, pid: number): ReadonlyMap<string, readonly number[]> {
  const sockets = new Map<string, number[]>();
  const count = numberIn(env["LISTEN_FDS"]) ?? 0;
  if (numberIn(env["LISTEN_PID"]) !== pid || count > MAX_FDS) return sockets;
  const names = env["LISTEN_FDNAMES"]?.split(":") ?? [];
  for (let i = 0; i < count; i++) {
    // Without names, sd_listen_fds_with_names(3) calls each of them "unknown".
    const name = names[i] || "unknown";
    sockets.set(name, [...(sockets.get(name) ?? []), FIRST_FD + i]);
  }
  return sockets;
}

/** The descriptor of the one socket with this name, or why there is none. */
export function socketNamed(name: string, sockets: ReadonlyMap<string, readonly number[]>): number | string {
  const [fd, ...more] = sockets.get(name) ?? [];
  if (fd === undefined) {
    const names = [...sockets.keys()].map((each) => JSON.stringify(each)).join(", ");
    return sockets.size === 0
      ? "systemd has passed no socket to this process"
      : `systemd has passed no socket of this name; it has passed ${names}`;
  }
  if (more.length > 0) {
    return `systemd has passed ${1 + more.length} sockets of this name; give each a FileDescriptorName of its own`;
  }
  return fd;
}

/**
 * A descriptor of one's own for the socket with this name, for `Bun.listen`.
 * @returns the descriptor, or why there is none
 */
export function openPassed(name: string): number | string {
  const fd = socketNamed(name, passedSockets(process.env, process.pid));
  if (typeof fd === "string") return fd;
  const calls = libcNow();
  return calls === undefined ? "this system has no systemd" : ownListener(calls, fd);
}

/** How long to wait until a message that systemd could not take is sent again, in milliseconds. */
const AGAIN_MS = 50;

/** Sends messages to systemd, each in its turn. */
export class Notifier {
  readonly #send: (text: string) => string | undefined;
  readonly #waiting: string[] = [];
  #again: Timer | undefined;

  /** @param send returns undefined, or the name of an error */
  constructor(send: (text: string) => string | undefined) {
    this.#send = send;
  }

  /**
   * Sends these lines as one message. If systemd's queue is full, they are sent later: it must not miss a change of state.
   * Any other error means that systemd does not listen any more.
   */
  tell(...lines: readonly string[]): void {
    this.#waiting.push(lines.join("\n"));
    if (this.#again === undefined) this.#flush();
  }

  /** Sends a message that a later one makes worthless: not at all if others wait. */
  mention(line: string): void {
    if (this.#waiting.length === 0) this.#send(line);
  }

  #flush(): void {
    this.#again = undefined;
    while (this.#waiting.length > 0) {
      if (this.#send(this.#waiting[0] as string) === "EAGAIN") {
        this.#again = setTimeout(() => this.#flush(), AGAIN_MS);
        return;
      }
      this.#waiting.shift();
    }
  }
}

/** What a service tells systemd by. */
export interface Manager {
  readonly notifier: Notifier;
  /** For MONOTONIC_USEC. */
  readonly microseconds: () => bigint;
  /** Milliseconds within which it wants a sign of life. */
  readonly watchdog: number | undefined;
}

/** Finds systemd; undefined if it has not started this process, or does not listen to it. Nothing is loaded then. */
export function findManager(env: Environment = process.env, pid = process.pid): Manager | undefined {
  const name = notifySocket(env);
  const calls = name === undefined ? undefined : libcNow();
  if (name === undefined || calls === undefined) return undefined;
  return {
    notifier: new Notifier(messenger(calls, name)),
    microseconds: () => systemMicroseconds(calls),
    watchdog: watchdogTime(env, pid),
  };
}

function numberIn(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
