// The clock that everything but dates goes by. What the runtime offers counts from the start of each thread, so that no
// two threads would agree; the system's own is the same for all, and for those that begin later.

import { dlopen, ptr } from "bun:ffi";

const CLOCK_MONOTONIC = process.platform === "darwin" ? 6 : 1;

/** Seconds in the first word, nanoseconds in the third: `struct timespec` on a 64-bit machine, least byte first. */
const time = new Uint32Array(4);
const into = ptr(time);
const { clock_gettime } = dlopen(libc(), { clock_gettime: { args: ["int", "ptr"], returns: "int" } }).symbols;

/** Whole milliseconds of the system's monotonic clock. */
export function monotonic(): number {
  clock_gettime(CLOCK_MONOTONIC, into);
  return (time[0] as number) * 1_000 + Math.floor((time[2] as number) / 1_000_000);
}

/** A name that is not looked for where the process was started. */
function libc(): string {
  if (process.platform === "darwin") return "/usr/lib/libSystem.B.dylib";
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  if (report?.header?.glibcVersionRuntime !== undefined) return "libc.so.6";
  return `/lib/ld-musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`;
}
