// Says what a proxy's main thread did, moment by moment, from the kernel's trace, and what that made of single round
// trips. Pure.
//
// A round trip's time is divided by who had it: at each moment the first that applies of the list below. What a slow
// round trip has more of a cause than an ordinary one is the cause's share in its being slow.

import type { Event } from "./trace.ts";

/** In the order in which they are asked. */
export const CAUSES = [
  ["gc", "garbage collection in the proxy: its main thread stands still"],
  ["tick", "the proxy's periodic timer over all connections"],
  [
    "signature",
    "TLS of a handshake without pause: more than 0.1 ms between two system calls for a new connection",
  ],
  ["handshake", "the rest of what the proxy does for new connections"],
  ["relay", "the proxy moves bytes of round trips, this one's or another's"],
  ["loop", "the proxy's event loop: it asks what is ready, or runs other timers"],
  ["core-load", "the proxy could run, and the load generator or the backend has its core"],
  ["core-own", "the proxy could run, and a helper thread of its own has its core"],
  ["core-other", "the proxy could run, and somebody else has its core"],
  ["core-idle", "the proxy could run, and its core is idle: the kernel and the machine below it wake it"],
  ["generator", "the proxy sleeps, and the load generator runs"],
  ["backend", "both sleep, and the backend runs"],
  [
    "load-core",
    "none of the three runs, and the load generator or the backend could: somebody else has its core",
  ],
  ["none", "all three sleep: wake-ups, the kernel's network, or the whole machine stood still"],
] as const;

export type Cause = (typeof CAUSES)[number][0];

/** Milliseconds by cause, in the order of `CAUSES`. */
export type Parts = Float64Array;

/** The threads that a round trip goes through. */
export interface Threads {
  readonly proxy: number;
  readonly generator: number;
  readonly backend: number;
  /** All threads of the proxy; and all of the load generators and the backend. */
  readonly own: ReadonlySet<number>;
  readonly load: ReadonlySet<number>;
  /** The proxy's descriptors when the load began: those of round trips. Others are of new connections. */
  readonly relayed: ReadonlySet<number>;
}

/** Time from one moment on, with one cause. */
export interface Moment {
  readonly at: number;
  readonly cause: Cause;
}

/** Marks of `marks.ts`. */
const TICK_BEGINS = 0x7ff0001;
const TICK_ENDS = 0x7ff0002;

/** System calls of Linux on x64. */
const CALL = { write: 1, getpgid: 121, accept4: 288 } as const;
const READS = new Set([0, 45, 47]);
const WAITS = new Set([232, 281, 441]);
/** Calls about a descriptor: write, writev, sendto, sendmsg, shutdown, close, setsockopt, getsockopt, connect. */
const ABOUT = new Set([1, 3, 20, 42, 44, 46, 48, 54, 55]);

/** More than any other thing that TLS does, in milliseconds. */
const SIGNATURE_MS = 0.1;

type State = "runs" | "waits" | "sleeps";
type Doing = "gc" | "tick" | "handshake" | "relay" | "loop";

/** The causes over time. */
export function timeline(events: readonly Event[], threads: Threads): Moment[] {
  const states = new Map<number, State>(
    [threads.proxy, threads.generator, threads.backend].map((pid) => [pid, "sleeps"]),
  );
  /** The thread that each core runs, and the core for which the proxy waits. */
  const running = new Map<number, number>();
  let wanted = 0;
  let doing: Doing = "loop";
  const moments: { at: number; cause: Cause }[] = [];
  /** Where the moments since the last system call begin. */
  let stretch = 0;
  for (const event of events) {
    switch (event.kind) {
      case "switch":
        running.set(event.core, event.to);
        if (states.has(event.from)) states.set(event.from, event.isRunnable ? "waits" : "sleeps");
        if (states.has(event.to)) states.set(event.to, "runs");
        if (event.from === threads.proxy) wanted = event.core;
        break;
      case "wake":
        if (states.get(event.pid) === "sleeps") states.set(event.pid, "waits");
        break;
      case "place":
        if (event.pid === threads.proxy) wanted = event.core;
        break;
      case "call":
        nameSignature(moments, stretch, event.at);
        stretch = moments.length;
        doing = next(doing, event, threads);
    }
    moments.push({ at: event.at, cause: causeOf(doing, states, threads, running.get(wanted)) });
  }
  return moments;
}

/** A handshake that keeps the thread for so long between two system calls signs or verifies. */
function nameSignature(moments: { at: number; cause: Cause }[], from: number, until: number): void {
  let ms = 0;
  for (let i = from; i < moments.length; i++)
    if (moments[i]!.cause === "handshake") ms += (moments[i + 1]?.at ?? until) - moments[i]!.at;
  if (ms < SIGNATURE_MS) return;
  for (let i = from; i < moments.length; i++)
    if (moments[i]!.cause === "handshake") moments[i]!.cause = "signature";
}

/** What the proxy does from a system call on; calls that say nothing change nothing. */
function next(doing: Doing, { number, first }: Event & { kind: "call" }, { relayed }: Threads): Doing {
  if (number === CALL.getpgid) return first === TICK_BEGINS ? "tick" : first === TICK_ENDS ? "loop" : doing;
  if (WAITS.has(number)) return "loop";
  // It logs nothing but its collections: the log of its own is off.
  if (number === CALL.write && first === 2) return "gc";
  if (number === CALL.accept4) return "handshake";
  if (!READS.has(number) && !ABOUT.has(number)) return doing;
  return relayed.has(first) ? "relay" : "handshake";
}

function causeOf(
  doing: Doing,
  states: Map<number, State>,
  { proxy, generator, backend, own, load }: Threads,
  runs: number | undefined,
): Cause {
  const [proxyIs, generatorIs, backendIs] = [proxy, generator, backend].map((pid) => states.get(pid));
  // In a collection the main thread may wait for its helpers.
  if (proxyIs === "runs" || (doing === "gc" && proxyIs === "sleeps")) return doing;
  if (proxyIs === "waits" && runs === 0) return "core-idle";
  if (proxyIs === "waits") return load.has(runs!) ? "core-load" : own.has(runs!) ? "core-own" : "core-other";
  if (generatorIs === "runs") return "generator";
  if (backendIs === "runs") return "backend";
  return generatorIs === "waits" || backendIs === "waits" ? "load-core" : "none";
}

/** Divides the time from one moment to another by cause. */
export function divide(moments: readonly Moment[], from: number, to: number): Parts {
  const parts = new Float64Array(CAUSES.length);
  let low = 0;
  let high = moments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (moments[middle]!.at <= from) low = middle + 1;
    else high = middle;
  }
  for (let i = Math.max(0, low - 1); i < moments.length && moments[i]!.at < to; i++) {
    const until = Math.min(to, moments[i + 1]?.at ?? to);
    parts[PLACE.get(moments[i]!.cause)!]! += Math.max(0, until - Math.max(from, moments[i]!.at));
  }
  return parts;
}

/** Of each cause, the share of round trips in which it has more than any other beyond what it has in an ordinary one. */
export function mainCauses(trips: readonly Parts[], ordinary: Parts): Parts {
  const shares = new Float64Array(CAUSES.length);
  for (const parts of trips) {
    const excess = parts.map((ms, i) => ms - ordinary[i]!);
    shares[excess.indexOf(Math.max(...excess))]! += 1 / trips.length;
  }
  return shares;
}

/** Parts of one collection are no further apart, in milliseconds; neither are those of a tick that was interrupted. */
const APART_MS = 1;

/** How long it took each time from the beginning to the end, in milliseconds. */
export function stretchesOf(moments: readonly Moment[], cause: Cause): number[] {
  const all: { from: number; to: number }[] = [];
  moments.forEach((moment, i) => {
    if (moment.cause !== cause) return;
    const to = moments[i + 1]?.at ?? moment.at;
    const last = all.at(-1);
    if (last !== undefined && moment.at - last.to <= APART_MS) last.to = to;
    else all.push({ from: moment.at, to });
  });
  return all.map(({ from, to }) => to - from);
}

const PLACE = new Map<Cause, number>(CAUSES.map(([cause], i) => [cause, i]));

/** The mean of several. */
export function mean(all: readonly Parts[]): Parts {
  return Float64Array.from(CAUSES, (_, i) => all.reduce((total, parts) => total + parts[i]!, 0) / all.length);
}
