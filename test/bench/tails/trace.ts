// The kernel's own trace of a few threads: when each runs, waits for a core or sleeps, and the system calls of one of
// them. It wants root, and tracefs. The trace is an instance of its own, which is removed at the end.

import { mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from "node:fs";

const ROOT = "/sys/kernel/tracing";

/** What one line of the trace says; times are milliseconds of the system's monotonic clock. */
export type Event =
  | { at: number; kind: "switch"; core: number; from: number; isRunnable: boolean; to: number }
  | { at: number; kind: "wake"; pid: number }
  /** After a wake: the core that the thread is to run on. */
  | { at: number; kind: "place"; core: number; pid: number }
  | { at: number; kind: "call"; number: number; first: number };

/** A trace that runs. */
export class KernelTrace {
  readonly #folder = `${ROOT}/instances/tcpproxy-tails-${process.pid}`;

  readonly #remove = () => rmdirSync(this.#folder);

  /** Begins to trace all threads of some processes, and the system calls of the first one's main thread. */
  constructor(pids: readonly number[]) {
    mkdirSync(this.#folder);
    process.once("exit", this.#remove);
    const set = (name: string, value: string) => writeFileSync(`${this.#folder}/${name}`, value);
    set("tracing_on", "0");
    set("trace_clock", "mono");
    set("buffer_size_kb", "65536");
    set("set_event_pid", pids.flatMap((pid) => readdirSync(`/proc/${pid}/task`)).join(" "));
    set("options/event-fork", "1");
    set("events/raw_syscalls/sys_enter/filter", `common_pid == ${pids[0]}`);
    for (const event of [
      "sched/sched_switch",
      "sched/sched_waking",
      "sched/sched_wakeup",
      "raw_syscalls/sys_enter",
    ])
      set(`events/${event}/enable`, "1");
    set("tracing_on", "1");
  }

  /** Ends the trace, and answers what happened, in the order of time. */
  end(): Event[] {
    writeFileSync(`${this.#folder}/tracing_on`, "0");
    const text = readFileSync(`${this.#folder}/trace`, "latin1");
    this.#remove();
    process.off("exit", this.#remove);
    if (/entries-in-buffer.*\n/.test(text)) {
      const [, kept, written] = /entries-in-buffer\/entries-written: (\d+)\/(\d+)/.exec(text) ?? [];
      if (kept !== written)
        throw new Error(`the kernel's buffer was too small: it kept ${kept} of ${written}`);
    }
    return text.split("\n").flatMap((line) => eventOf(line) ?? []);
  }
}

// "  proxy-17835   [001] d..2.   701.703481: sched_switch: prev_comm=… prev_pid=17835 prev_prio=120 prev_state=S ==> …"
const LINE = /\[(\d+)\] \S+\s+(\d+\.\d+): (sched_switch|sched_waking|sched_wakeup|sys_enter): (.*)$/;
const SWITCH = /prev_pid=(\d+) prev_prio=-?\d+ prev_state=(\S+) ==> .*next_pid=(\d+)/;

/** What a line says; undefined if it is none of these. */
export function eventOf(line: string): Event | undefined {
  const match = LINE.exec(line);
  if (match === null) return undefined;
  const [, core, seconds, name, rest] = match as unknown as [string, string, string, string, string];
  const at = Number(seconds) * 1_000;
  if (name === "sched_switch") {
    const [, from, state, to] = SWITCH.exec(rest)!;
    return {
      at,
      kind: "switch",
      core: Number(core),
      from: Number(from),
      isRunnable: state!.startsWith("R"),
      to: Number(to),
    };
  }
  if (name === "sched_waking") return { at, kind: "wake", pid: Number(/ pid=(\d+)/.exec(rest)![1]) };
  if (name === "sched_wakeup") {
    const [, pid, target] = / pid=(\d+) .*target_cpu=(\d+)/.exec(rest)!;
    return { at, kind: "place", core: Number(target), pid: Number(pid) };
  }
  const [, number, first] = /NR (\d+) \(([0-9a-f]+)/.exec(rest)!;
  return { at, kind: "call", number: Number(number), first: Number.parseInt(first!, 16) };
}
