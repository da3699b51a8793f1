// The processes of a benchmark: starting them, ending them all whatever happens, and what the kernel says of their CPU
// and memory in /proc. Linux only, like the peers' packages.

import { readFileSync, readdirSync } from "node:fs";

const spawned = new Set<Bun.Subprocess>();

/** Remembers a process, so that it does not outlive the benchmark. */
export function remember<T extends Bun.Subprocess>(child: T): T {
  spawned.add(child);
  void child.exited.then(() => spawned.delete(child));
  return child;
}

/** Ends every process that still runs. */
export function killAll(): void {
  for (const { pid } of spawned) kill(pid);
}

/** Ends a process and what it has started. */
export function kill(pid: number): void {
  for (const member of familyOf(pid)) {
    try {
      process.kill(member, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** CPU that a process and its children have used, all threads, user and system, in milliseconds. */
export function cpuOf(pid: number): number {
  return sum(familyOf(pid), (member) => {
    const fields = statOf(member);
    // The kernel counts in hundredths of a second.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  });
}

/** Resident memory of a process and its children, in bytes. */
export function memoryOf(pid: number): number {
  return sum(familyOf(pid), (member) => {
    const status = readFileSync(`/proc/${member}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * 1_024;
  });
}

/** A process and its descendants, as nginx has them with two workers. */
function familyOf(pid: number): number[] {
  const childrenOf = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    const child = Number(name);
    if (!Number.isInteger(child)) continue;
    try {
      const parent = Number(statOf(child)[1]);
      childrenOf.set(parent, [...(childrenOf.get(parent) ?? []), child]);
    } catch {
      // It has ended meanwhile.
    }
  }
  const family = [pid];
  for (const member of family) family.push(...(childrenOf.get(member) ?? []));
  return family;
}

/** The fields of /proc/PID/stat from the state on, the third: the name before it may hold anything. */
function statOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  return text.slice(text.lastIndexOf(") ") + 2).split(" ");
}

function sum(members: readonly number[], figure: (pid: number) => number): number {
  return members.reduce((total, member) => total + figure(member), 0);
}
