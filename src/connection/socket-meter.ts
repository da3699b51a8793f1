// Measures what a handshake costs: the bytes that a socket has received so far, read or not (Linux only), and the
// thread's processor time.

import { libc, type Libc } from "../lib/libc.ts";

const IPPROTO_TCP = 6;
const TCP_INFO = 11;

/** The offset of `tcpi_bytes_received` in struct tcp_info (linux/tcp.h), and the length of the struct up to its end. */
const BYTES_RECEIVED_OFFSET = 128;
const TCP_INFO_BYTES = 136;

/** Measures sockets. */
export interface Meter {
  /**
   * @param fd -1 for a socket that is closed
   * @returns bytes received, one more after a FIN; -1 if the number is not known yet, undefined if it never will be
   */
  received(fd: number): number | undefined;
  /** Milliseconds of processor time that this thread has used. */
  cpu(): number;
}

/** Creates a meter. It loads the C library at the first call: a proxy without strangers never does. */
export function socketMeter(): Meter {
  let calls: Libc | undefined;
  let finding: Promise<void> | undefined;
  let found = false;
  const info = new Uint8Array(TCP_INFO_BYTES);
  const length = new Uint32Array(1);
  return {
    cpu() {
      const { user, system } = process.threadCpuUsage();
      return (user + system) / 1_000;
    },
    received(fd) {
      if (fd < 0) return undefined;
      if (calls === undefined) {
        finding ??= libc().then((library) => {
          calls = library;
          found = true;
        });
        return found ? undefined : -1;
      }
      length[0] = TCP_INFO_BYTES;
      if (calls.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, length) !== 0) return undefined;
      // Read from memory: optimized code would not know that the call has changed the array.
      return calls.read.u32(calls.ptr(info), BYTES_RECEIVED_OFFSET);
    },
  };
}
