// The system's monotonic clock, by which the kernel stamps its trace. The runtime's clock counts from a thread's start.

import { dlopen, ptr } from "bun:ffi";

/** Milliseconds to add to `performance.now()` of this thread. */
export function toSystemClock(): number {
  const { symbols } = dlopen("libc.so.6", { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } });
  const time = new BigInt64Array(2);
  symbols.clock_gettime(1, ptr(time));
  return Number(time[0]) * 1_000 + Number(time[1]) / 1e6 - performance.now();
}
