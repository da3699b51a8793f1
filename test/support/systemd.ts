// What systemd does for a service: it listens to its messages, and opens sockets for it.

import { dlopen, ptr, read } from "bun:ffi";
import { rmSync } from "node:fs";
import type { RunOptions } from "./binary.ts";
import { until } from "./proxy.ts";

const { symbols } =
  process.platform === "linux"
    ? dlopen("libc.so.6", {
        socket: { args: ["i32", "i32", "i32"], returns: "i32" },
        bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
        listen: { args: ["i32", "i32"], returns: "i32" },
        getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
        recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i32" },
        close: { args: ["i32"], returns: "i32" },
        clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
        ptrace: { args: ["i64", "i32", "i64", "i64"], returns: "i32" },
      })
    : { symbols: undefined as never };

const [AF_UNIX, AF_INET] = [1, 2];
const [SOCK_STREAM, SOCK_DGRAM] = [1, 2];
const [NONBLOCK, CLOEXEC] = [0o4000, 0o2000000];

/** A message, by the names of its fields. */
export type Message = Readonly<Record<string, string>>;

/** A socket for a service's messages, as NOTIFY_SOCKET names one. */
export class NotifySocket implements Disposable {
  readonly name: string;
  readonly #fd: number;
  readonly #all: Message[] = [];

  /** @param name for NOTIFY_SOCKET: a path or, with `@` in front, a name */
  constructor(name: string) {
    this.name = name;
    const address = Buffer.from(`\0\0${name.replace(/^@/, "\0")}${name.startsWith("@") ? "" : "\0"}`);
    address[0] = AF_UNIX!;
    this.#fd = symbols.socket(AF_UNIX!, SOCK_DGRAM! | NONBLOCK! | CLOEXEC!, 0);
    if (symbols.bind(this.#fd, address, address.length) !== 0) throw new Error(`cannot bind ${name}`);
  }

  /** All messages so far. */
  get messages(): readonly Message[] {
    const bytes = Buffer.alloc(4_096);
    for (;;) {
      const count = symbols.recv(this.#fd, bytes, bytes.length, 0);
      if (count <= 0) return this.#all;
      const lines = bytes.toString("utf8", 0, count).split("\n");
      this.#all.push(Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2))));
    }
  }

  /** Waits until there are this many messages with this field. Returns all of these. */
  async count(field: string, count: number): Promise<Message[]> {
    const found = () => this.messages.filter((each) => field in each);
    await until(() => found().length >= count, `systemd has heard ${field} ${count} times`);
    return found();
  }

  /** Changes of state so far, in their order. */
  get states(): string[] {
    return this.messages.flatMap((each) =>
      Object.keys(each).filter((field) => ["READY", "RELOADING", "STOPPING"].includes(field)),
    );
  }

  [Symbol.dispose]() {
    symbols.close(this.#fd);
    if (!this.name.startsWith("@")) rmSync(this.name, { force: true });
  }
}

/** Microseconds of the system's monotonic clock. */
export function microseconds(): bigint {
  const time = new BigInt64Array(2);
  symbols.clock_gettime(1, time);
  return read.u64(ptr(time), 0) * 1_000_000n + read.u64(ptr(time), 8) / 1_000n;
}

/** A socket that is opened for a service. */
export class Passed implements Disposable {
  readonly fd: number;
  readonly port: number;

  constructor(kind: "tcp" | "udp" | "unix" | "silent" = "tcp") {
    const family = kind === "unix" ? AF_UNIX! : AF_INET!;
    this.fd = symbols.socket(family, (kind === "udp" ? SOCK_DGRAM! : SOCK_STREAM!) | CLOEXEC!, 0);
    // struct sockaddr_in of 127.0.0.1 and any port; a Unix socket gets a name from the kernel.
    const address = kind === "unix" ? Buffer.from([AF_UNIX!, 0]) : Buffer.alloc(16);
    if (kind !== "unix") address.set([AF_INET!, 0, 0, 0, 127, 0, 0, 1]);
    if (symbols.bind(this.fd, address, address.length) !== 0) throw new Error("cannot bind");
    if (kind === "tcp" || kind === "unix") symbols.listen(this.fd, 128);
    const bound = Buffer.alloc(128);
    symbols.getsockname(this.fd, bound, Uint32Array.of(bound.length));
    this.port = read.u8(ptr(bound), 2) * 256 + read.u8(ptr(bound), 3);
  }

  [Symbol.dispose]() {
    symbols.close(this.fd);
  }
}

/** Passes these sockets to a binary, as systemd does. The descriptors stay open here, as they do there. */
export function passing(sockets: readonly Passed[], names: string, env: Record<string, string> = {}) {
  return {
    env: { PATH: Bun.env.PATH ?? "", LISTEN_FDS: String(sockets.length), LISTEN_FDNAMES: names, ...env },
    before: "export LISTEN_PID=$$",
    descriptors: sockets.map(({ fd }) => fd),
  } satisfies RunOptions;
}

const [PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH] = [0x4206, 0x4207, 17];

/** Stops one thread of another process, as a hang does. @returns how to let it run again; undefined if this may not be done */
export function freeze(thread: number): (() => void) | undefined {
  if (symbols.ptrace(PTRACE_SEIZE!, thread, 0, 0) !== 0) return undefined;
  symbols.ptrace(PTRACE_INTERRUPT!, thread, 0, 0);
  return () => void symbols.ptrace(PTRACE_DETACH!, thread, 0, 0);
}
