// Leaves a port to another process that has it too, so that no client notices. When a process closes a listening
// socket, the kernel resets the connections that wait in it, although another socket could take them; and it gives the
// socket new connections up to the last moment. So this module first sends new connections elsewhere and accepts those
// that wait.

import { libc, setOption, type Libc } from "../lib/libc.ts";

const SO_ATTACH_FILTER = 26;
const SO_ATTACH_REUSEPORT_CBPF = 51;
const SO_DETACH_REUSEPORT_BPF = 68;
const POLLIN = 1;

/** How long TCP handshakes in progress may take, in milliseconds: one way to the client and back. */
const DRAIN_WAIT_MS = 500;

/** How long the last socket of a process outlasts the others, in milliseconds. */
const LAST_SOCKET_EXTRA_MS = 100;

/** How long to wait at most for the remaining connections to be accepted, in milliseconds. */
const MAX_ACCEPT_WAIT_MS = 5_000;

/** An instruction of the kernel's classic packet filter: code, jumps if true and if false, operand. */
type Instruction = readonly [code: number, yes: number, no: number, operand: number];

const RETURN = 0x06;

/**
 * Drops the packets that begin a connection, and passes the rest. A client repeats a lost first packet after a second.
 */
const DROP_SYN: readonly Instruction[] = [
  // The TCP flags: SYN without ACK begins a connection.
  [0x30, 0, 0, 13],
  [0x54, 0, 0, 0x12],
  [0x15, 0, 1, 0x02],
  [RETURN, 0, 0, 0],
  [RETURN, 0, 0, 0xffffffff],
];

/** The sockets that a process has for the port. */
export interface Sockets {
  readonly count: number;
  /** Whether this is the socket that closes last. */
  readonly last: boolean;
}

/**
 * Resolves when no connection waits in a listening socket any more and none arrives: close it at once then. If the
 * system does not support this, resolves as soon as that is known. The socket continues to accept meanwhile.
 *
 * The process's own sockets are the first of those that share the port, unless another process was there before them.
 * If another was, or if a worker thread has died since, new clients may connect a second late, and none is lost. The
 * exception is a kernel that does not let this user filter: a connection that arrives in the very moment of closing may
 * then be lost.
 * @param signal ends the waiting
 */
export async function leave(fd: number, { count, last }: Sockets, signal: AbortSignal): Promise<void> {
  const calls = await libc();
  if (calls === undefined || signal.aborted) return;
  // If the filter stayed, it would steer the remaining sockets. Before the last socket closes, the kernel would again
  // choose among the process's own.
  const detach = () => void setOption(calls, fd, SO_DETACH_REUSEPORT_BPF, Int32Array.of(0));
  signal.addEventListener("abort", detach, { once: true });
  // The filter sends a new connection to the first socket of another process; if there is none, the kernel chooses as
  // usual.
  const sent = attach(calls, fd, SO_ATTACH_REUSEPORT_CBPF, [[RETURN, 0, 0, count]]);
  // Covers a connection that the kernel sends here all the same. Newer kernels allow this only with CAP_NET_ADMIN.
  const shut = attach(calls, fd, SO_ATTACH_FILTER, DROP_SYN);
  if (sent || shut) {
    await sleep(last ? DRAIN_WAIT_MS + LAST_SOCKET_EXTRA_MS : DRAIN_WAIT_MS, signal);
    const waiting = Int32Array.of(fd, POLLIN);
    const deadline = performance.now() + MAX_ACCEPT_WAIT_MS;
    while (!signal.aborted && performance.now() < deadline && calls.poll(waiting, 1, 0) > 0) {
      await sleep(1, signal);
    }
  }
  if (last && !signal.aborted) detach();
}

/** struct sock_fprog: the number of instructions, and their address. */
function attach(calls: Libc, fd: number, option: number, program: readonly Instruction[]): boolean {
  const code = new Uint8Array(8 * program.length);
  const view = new DataView(code.buffer);
  program.forEach(([operation, yes, no, operand], i) => {
    view.setUint16(8 * i, operation, true);
    view.setUint8(8 * i + 2, yes);
    view.setUint8(8 * i + 3, no);
    view.setUint32(8 * i + 4, operand, true);
  });
  return setOption(calls, fd, option, BigUint64Array.of(BigInt(program.length), BigInt(calls.ptr(code))));
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      done();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish);
  });
}
