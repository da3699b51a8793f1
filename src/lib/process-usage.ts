// What the process uses of its machine. Linux tells the most; elsewhere there is what the runtime knows.

import { readFileSync, readdirSync, statSync } from "node:fs";
import { openFilesLimit } from "./descriptors.ts";

/** What cannot be told is undefined. */
export interface ProcessUsage {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly virtualBytes: number | undefined;
  /** Seconds since 1970. */
  readonly startedAt: number;
  readonly openDescriptors: number | undefined;
  readonly maxDescriptors: number;
}

export function processUsage(): ProcessUsage {
  const { user, system } = process.cpuUsage();
  return {
    cpuSeconds: (user + system) / 1_000_000,
    residentBytes: process.memoryUsage.rss(),
    virtualBytes: told(virtualBytes),
    startedAt: performance.timeOrigin / 1_000,
    openDescriptors: told(openDescriptors),
    maxDescriptors: openFilesLimit(),
  };
}

function told(read: () => number): number | undefined {
  if (process.platform !== "linux") return undefined;
  try {
    return read();
  } catch {
    // A system that hides /proc.
    return undefined;
  }
}

/** See proc(5): the 23rd field, counted behind the name, which may hold anything. */
function virtualBytes(): number {
  const stat = readFileSync("/proc/self/stat", "latin1");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[20]);
}

/** From Linux 6.2 on the folder's size says it; to list the folder takes longer with each descriptor. */
function openDescriptors(): number {
  const folder = "/proc/self/fd";
  return statSync(folder).size || readdirSync(folder).length;
}
