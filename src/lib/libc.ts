// The few calls of the C library that the runtime does not offer. Linux only, and none is essential: without them, some
// functions work a little less well.

import { endianness } from "node:os";
import { getSystemErrorName } from "node:util";
import type { FFIFunction, Library } from "bun:ffi";

const FUNCTIONS = {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  inet_pton: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  __errno_location: { args: [], returns: "ptr" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: "i32" },
  clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
} as const satisfies Record<string, FFIFunction>;

/** The calls, the address of an array in memory, and the memory's contents. */
export type Libc = Library<typeof FUNCTIONS>["symbols"] & {
  readonly ptr: (array: NodeJS.TypedArray) => number;
  readonly read: {
    u32(pointer: number, offset: number): number;
    u64(pointer: number, offset: number): bigint;
  };
  /** The error number of the last failed call. */
  readonly errno: () => number;
};

/** Opens the library, which is already loaded; undefined if this system has none. */
export async function libc(): Promise<Libc | undefined> {
  return libcNow();
}

/** The same, for callers that cannot wait. */
export function libcNow(): Libc | undefined {
  if (process.platform !== "linux") return undefined;
  try {
    // Loaded here because most proxies never need it.
    const { dlopen, ptr, read } = require("bun:ffi") as typeof import("bun:ffi");
    // musl has this name too.
    const { symbols } = dlopen("libc.so.6", FUNCTIONS);
    const location = symbols.__errno_location();
    return { ...symbols, ptr, read, errno: () => (location === null ? 0 : read.i32(location, 0)) } as Libc;
  } catch {
    return undefined;
  }
}

const SOL_SOCKET = 1;

/** Sets an option of a socket, and returns whether that succeeded. */
export function setOption(
  { setsockopt }: Libc,
  fd: number,
  option: number,
  value: NodeJS.TypedArray,
): boolean {
  return setsockopt(fd, SOL_SOCKET, option, value, value.byteLength) === 0;
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM_CLOEXEC = 0o2000001;
const SO_REUSEADDR = 2;

/**
 * Whether a port is free. It checks without listening: no client can mistake it for a server.
 * @returns undefined if it cannot be determined, for example for a name rather than an address
 */
export async function isFree(hostname: string, port: number): Promise<boolean | undefined> {
  const calls = await libc();
  if (calls === undefined) return undefined;
  const family = hostname.includes(":") ? AF_INET6 : AF_INET;
  // struct sockaddr_in: family, port, address; struct sockaddr_in6 has a flow before the address.
  const address = new Uint8Array(family === AF_INET ? 16 : 28);
  new DataView(address.buffer).setUint16(0, family, true);
  new DataView(address.buffer).setUint16(2, port);
  const bytes = new Uint8Array(16);
  if (calls.inet_pton(family, Buffer.from(`${hostname}\0`), bytes) !== 1) return undefined;
  address.set(family === AF_INET ? bytes.subarray(0, 4) : bytes, family === AF_INET ? 4 : 8);
  const fd = calls.socket(family, SOCK_STREAM_CLOEXEC, 0);
  if (fd < 0) return undefined;
  try {
    // The remains of ended connections do not count.
    setOption(calls, fd, SO_REUSEADDR, Int32Array.of(1));
    return calls.bind(fd, address, address.length) === 0;
  } finally {
    calls.close(fd);
  }
}

const AF_UNIX = 1;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 0o2004001;
const SO_PEERCRED = 17;

/**
 * Asks the kernel which user listens on a name among its local sockets.
 * @returns the user's number; undefined if no socket listens, or if its queue is full
 */
export function listenerOf(calls: Libc, name: string): number | undefined {
  // struct sockaddr_un: family, name; a leading NUL marks a name that is not a path.
  const address = Buffer.from(`\0\0\0${name}`);
  address.writeUInt16LE(AF_UNIX);
  const fd = calls.socket(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
  if (fd < 0) return undefined;
  try {
    if (calls.connect(fd, address, address.length) !== 0) return undefined;
    return peerUser(calls, fd);
  } finally {
    calls.close(fd);
  }
}

/** The number of the user at the other end of a local socket, as of when it connected or began to listen. */
export function peerUser(calls: Libc, fd: number): number | undefined {
  // struct ucred: process, user, group.
  const peer = new Uint32Array(3);
  const size = Uint32Array.of(peer.byteLength);
  if (calls.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, size) !== 0) return undefined;
  // Read from memory: optimized code would not know that the call has changed the array.
  return calls.read.u32(calls.ptr(peer), 4);
}

let forUnix: Promise<Libc | undefined> | undefined;

/**
 * Connects to a Unix socket, which succeeds or fails at once (unix(7)).
 * @returns the descriptor, or the name of the error; undefined if there is no C library
 */
export async function connectUnix(path: string): Promise<number | string | undefined> {
  const calls = await (forUnix ??= libc());
  if (calls === undefined) return undefined;
  // struct sockaddr_un: family, path, NUL.
  const address = Buffer.from(`\0\0${path}\0`);
  address[endianness() === "LE" ? 0 : 1] = AF_UNIX;
  const fd = calls.socket(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
  if (fd >= 0 && calls.connect(fd, address, address.length) === 0) return fd;
  const error = calls.errno();
  if (fd >= 0) calls.close(fd);
  return error > 0 ? getSystemErrorName(-error) : "ECONNREFUSED";
}

const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const O_NONBLOCK = 0o4000;
const SO_TYPE = 3;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const SOCK_STREAM = 1;

/**
 * A descriptor of one's own for a listening TCP socket that another program has opened.
 * @returns the descriptor, or what is wrong with the socket
 */
export function ownListener(calls: Libc, fd: number): number | string {
  const read = (option: number) => {
    const value = new Int32Array(1);
    const size = Uint32Array.of(value.byteLength);
    if (calls.getsockopt(fd, SOL_SOCKET, option, value, size) !== 0) return -1;
    return calls.read.u32(calls.ptr(value), 0);
  };
  const family = read(SO_DOMAIN);
  if (family === -1) return `descriptor ${fd} is no socket`;
  if (read(SO_TYPE) !== SOCK_STREAM || (family !== AF_INET && family !== AF_INET6)) {
    return "the socket is not for TCP";
  }
  if (read(SO_ACCEPTCONN) !== 1) return "the socket does not listen";
  // Where several threads accept from it, one that comes too late must not wait.
  calls.fcntl(fd, F_SETFL, calls.fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
  const own = calls.fcntl(fd, F_DUPFD_CLOEXEC, 3);
  return own < 0 ? getSystemErrorName(-calls.errno()) : own;
}

const SOCK_DGRAM_NONBLOCK_CLOEXEC = 0o2004002;
const MSG_NOSIGNAL = 0x4000;

/**
 * Opens a socket for messages to a local one.
 * @param name its path; with `@` in front, a name that is not a path
 * @returns sends a message; returns undefined, or the name of the error. The socket is open as long as the process
 */
export function messenger(calls: Libc, name: string): (text: string) => string | undefined {
  const end = name.startsWith("@") ? "" : "\0";
  const address = Buffer.from(`\0\0${name.replace(/^@/, "\0")}${end}`);
  address[endianness() === "LE" ? 0 : 1] = AF_UNIX;
  const fd = calls.socket(AF_UNIX, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0);
  return (text) => {
    const bytes = Buffer.from(text);
    const sent = calls.sendto(fd, bytes, bytes.length, MSG_NOSIGNAL, address, address.length);
    return sent === bytes.length ? undefined : getSystemErrorName(-calls.errno());
  };
}

const CLOCK_MONOTONIC = 1;

/** Microseconds of the system's clock that is never set; the runtime's clocks count from the start of a thread. */
export function systemMicroseconds(calls: Libc): bigint {
  // struct timespec: seconds, nanoseconds.
  const time = new BigInt64Array(2);
  const at = calls.ptr(time);
  calls.clock_gettime(CLOCK_MONOTONIC, time);
  return calls.read.u64(at, 0) * 1_000_000n + calls.read.u64(at, 8) / 1_000n;
}
