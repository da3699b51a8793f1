// Leaving a port to another process that has it too, so that no client notices. When a listening socket is closed, the
// connections that wait in it are reset, although another socket is there to take them; and the kernel gives it new
// ones to its last moment. So before it is closed, new connections are sent elsewhere, and what waits is accepted.

import { libc, setOption, type Libc } from "../lib/libc.ts";

const SO_ATTACH_FILTER = 26;
const SO_ATTACH_REUSEPORT_CBPF = 51;
const SO_DETACH_REUSEPORT_BPF = 68;
const POLLIN = 1;

/** Milliseconds that are left to handshakes of TCP that are under way: the way to the client and back. */
const DRAIN_WAIT_MS = 500;

/** Milliseconds by which the last socket of a process outstays the others. */
const LAST_SOCKET_EXTRA_MS = 100;

/** The most milliseconds that are waited for the rest to be accepted. */
const MAX_ACCEPT_WAIT_MS = 5_000;

/** An instruction of the kernel's classic packet filter: code, jumps if true and if false, operand. */
type Instruction = readonly [code: number, yes: number, no: number, operand: number];

const RETURN = 0x06;

/** Drops what begins a connection, and lets the rest through. A client repeats a lost beginning after a second. */
const NO_BEGINNINGS: readonly Instruction[] = [
  // The flags of TCP: SYN without ACK begins a connection.
  [0x30, 0, 0, 13],
  [0x54, 0, 0, 0x12],
  [0x15, 0, 1, 0x02],
  [RETURN, 0, 0, 0],
  [RETURN, 0, 0, 0xffffffff],
];

/** The sockets that a process has for the port. */
export interface Sockets {
  readonly count: number;
  /** Whether this is the one that is closed last. */
  readonly last: boolean;
}

/**
 * Resolves when no connection waits in a listening socket any more and none comes: close it at once then. Where
 * the system does not help, resolves as soon as that is known. The socket goes on accepting meanwhile.
 *
 * The process's own sockets are the first of those that share the port, unless another process was there before them. If
 * somebody was, or a worker thread has died since, new clients may be a second late; none is lost, unless the kernel
 * does not let this user filter: then what comes in the very moment of the end may be.
 * @param signal ends the waiting
 */
export async function leave(fd: number, { count, last }: Sockets, signal: AbortSignal): Promise<void> {
  const calls = await libc();
  if (calls === undefined || signal.aborted) return;
  // Left behind, it would rule over those who stay. Before the last one leaves, the kernel would again choose among ours.
  const detach = () => void setOption(calls, fd, SO_DETACH_REUSEPORT_BPF, Int32Array.of(0));
  signal.addEventListener("abort", detach, { once: true });
  // A new connection goes to the first socket that is not ours; where there is none, the kernel chooses as ever.
  const sent = attach(calls, fd, SO_ATTACH_REUSEPORT_CBPF, [[RETURN, 0, 0, count]]);
  // In case somebody is sent here all the same. Newer kernels let only CAP_NET_ADMIN do that.
  const shut = attach(calls, fd, SO_ATTACH_FILTER, NO_BEGINNINGS);
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

/** struct sock_fprog: the number of instructions, and where they are. */
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
