// What is measured, and how much of it. A measure is a job for the generator, and figures made of its outcome and of
// what the kernel says the proxy has used meanwhile.

import type { FloorKind } from "./floor.ts";
import type { Job, Outcome } from "./generator.ts";
import type { Keys } from "./peers.ts";

/** A job without what all jobs have in common. */
export type Task = Job extends infer J ? (J extends Job ? Omit<J, "port" | "certs"> : never) : never;

/** A row of the table. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  /** What it is, in a few words. */
  readonly about: string;
  /** The greater the better; without it, the smaller. */
  readonly more?: true;
  /** What the arithmetic alone costs. */
  readonly floor?: FloorKind;
}

/** What one round gave. */
export interface Result {
  readonly outcome: Outcome;
  /** CPU in milliseconds. */
  readonly cpu: number;
  /** The storm beside it, if there was one. */
  readonly storm?: Outcome;
}

/** A row of a measure under load: of each round's result, or a percentile of how long the round trips took. */
export type LoadRow = Row & ({ readonly figure: (result: Result) => number } | { readonly share: number });

/** Rounds and amounts of a run. */
export interface Extent {
  readonly rounds: number;
  /** Operations a round: connections, round trips or bytes. */
  readonly amount: number;
}

/** Runs a task on proxies that are up. */
export interface LoadMeasure {
  readonly name: string;
  readonly keys: Keys;
  readonly task: (amount: number) => Task;
  readonly quick: Extent;
  readonly full: Extent;
  readonly rows: readonly LoadRow[];
  /** Full handshakes go on beside it without pause, so many at a time. */
  readonly storm?: number;
  /** Sessions may be resumed. */
  readonly tickets?: true;
  /** Of the client's ends, in front of this proxy, with plain connections. */
  readonly tunnel?: true;
  /** A Redis is asked about each connection. */
  readonly fleet?: true;
  /** Metrics and the door for operators are on, and scraped every second. */
  readonly watched?: true;
  /** What limits the handshakes of strangers is off. */
  readonly exempt?: true;
  /** Takes part with each of these numbers of workers, on load from two generators; rows are told apart by it. */
  readonly workers?: readonly number[];
}

const GiB = 2 ** 30;

const percentile = (share: number) => ({ unit: "µs", share });
export const cpuPerOperation = {
  unit: "µs",
  figure: ({ cpu, outcome }: Result) => (cpu / outcome.operations) * 1_000,
};
const cpuPerGiB = {
  unit: "s",
  figure: ({ cpu, outcome }: Result) => cpu / 1_000 / (outcome.operations / GiB),
};
const perSecond = {
  unit: "/s",
  more: true,
  figure: ({ outcome }: Result) => outcome.operations / (outcome.ms / 1_000),
} as const;

/** Measures under load. */
export const LOADS: readonly LoadMeasure[] = [
  {
    name: "handshake-rsa",
    keys: "rsa",
    task: (count) => ({ kind: "connect", count, concurrency: 8 }),
    quick: { rounds: 2, amount: 140 },
    full: { rounds: 7, amount: 1_500 },
    rows: [
      {
        name: "handshake-rsa",
        about: "CPU per full mutual handshake, dial, one byte there and back, end; RSA-2048",
        floor: "rsa",
        ...cpuPerOperation,
      },
    ],
  },
  {
    name: "handshake-ecdsa",
    keys: "ecdsa",
    task: (count) => ({ kind: "connect", count, concurrency: 8 }),
    quick: { rounds: 2, amount: 200 },
    full: { rounds: 7, amount: 3_000 },
    rows: [
      {
        name: "handshake-ecdsa",
        about: "the same with ECDSA P-256",
        floor: "ecdsa",
        ...cpuPerOperation,
      },
    ],
  },
  {
    name: "handshake-resumed",
    keys: "rsa",
    tickets: true,
    task: (count) => ({ kind: "resume", count, concurrency: 8 }),
    quick: { rounds: 2, amount: 200 },
    full: { rounds: 7, amount: 3_000 },
    rows: [
      {
        name: "handshake-resumed",
        about: "the same where each handshake resumes the session of the one before; RSA-2048, tickets on",
        floor: "resumed",
        ...cpuPerOperation,
      },
    ],
  },
  {
    name: "handshake-watched",
    keys: "ecdsa",
    watched: true,
    task: (count) => ({ kind: "connect", count, concurrency: 8 }),
    quick: { rounds: 2, amount: 200 },
    full: { rounds: 7, amount: 3_000 },
    rows: [
      {
        name: "handshake-watched",
        about: "the same as handshake-ecdsa with metrics and admin on, and scraped every second",
        floor: "ecdsa",
        ...cpuPerOperation,
      },
    ],
  },
  {
    name: "handshake-fleet",
    keys: "rsa",
    fleet: true,
    task: (count) => ({ kind: "connect", count, concurrency: 8 }),
    quick: { rounds: 2, amount: 140 },
    full: { rounds: 7, amount: 1_500 },
    rows: [
      {
        name: "handshake-fleet",
        about:
          "the same as handshake-rsa where a Redis is asked about each connection; the Redis not counted",
        floor: "rsa",
        ...cpuPerOperation,
      },
    ],
  },
  {
    name: "roundtrip",
    keys: "rsa",
    task: (count) => ({ kind: "roundtrip", count, connections: 8, size: 256 }),
    quick: { rounds: 2, amount: 15_000 },
    full: { rounds: 7, amount: 60_000 },
    rows: [
      {
        name: "roundtrip",
        about: "CPU per 256-byte round trip, 8 connections at a time",
        ...cpuPerOperation,
      },
      { name: "roundtrip-p50", about: "how long one takes, the median", ...percentile(0.5) },
      { name: "roundtrip-p99", about: "99 in 100 are faster", ...percentile(0.99) },
      { name: "roundtrip-p99.9", about: "999 in 1,000 are faster", ...percentile(0.999) },
      { name: "roundtrip-p99.99", about: "9,999 in 10,000 are faster", ...percentile(0.9999) },
    ],
  },
  {
    name: "download",
    keys: "rsa",
    task: (bytes) => ({ kind: "download", bytes, connections: 4 }),
    quick: { rounds: 2, amount: GiB / 8 },
    full: { rounds: 7, amount: 2 * GiB },
    rows: [
      { name: "download", about: "CPU per GiB to the client, 4 connections", floor: "gib", ...cpuPerGiB },
    ],
  },
  {
    name: "upload",
    keys: "rsa",
    task: (bytes) => ({ kind: "upload", bytes, connections: 4 }),
    quick: { rounds: 2, amount: GiB / 8 },
    full: { rounds: 7, amount: 2 * GiB },
    rows: [
      { name: "upload", about: "CPU per GiB from the client, 4 connections", floor: "gib", ...cpuPerGiB },
    ],
  },
  {
    name: "storm",
    keys: "rsa",
    task: (count) => ({ kind: "roundtrip", count, connections: 8, size: 256 }),
    storm: 16,
    quick: { rounds: 2, amount: 1_600 },
    full: { rounds: 7, amount: 8_000 },
    rows: [
      {
        name: "storm-p99",
        about:
          "99 in 100 round trips on 8 live connections are faster while 16 clients handshake without pause",
        ...percentile(0.99),
      },
      { name: "storm-p99.9", about: "999 in 1,000 of them are faster", ...percentile(0.999) },
      {
        name: "storm-rate",
        about: "handshakes the 16 clients got done meanwhile: a p99 can be bought with them",
        unit: "/s",
        more: true,
        figure: ({ storm }) => storm!.operations / (storm!.ms / 1_000),
      },
    ],
  },
  {
    name: "workers-handshake",
    keys: "rsa",
    workers: [1, 2],
    task: (count) => ({ kind: "connect", count: count / 2, concurrency: 8 }),
    quick: { rounds: 2, amount: 140 },
    full: { rounds: 7, amount: 1_500 },
    rows: [
      {
        name: "handshake",
        about: "CPU per full handshake as above, by number of workers",
        floor: "rsa",
        ...cpuPerOperation,
      },
      {
        name: "rate",
        about: "connections a second, two generators; says something where they have cores of their own",
        ...perSecond,
      },
    ],
  },
  {
    name: "workers-roundtrip",
    keys: "rsa",
    workers: [1, 2],
    task: (count) => ({ kind: "roundtrip", count: count / 2, connections: 16, size: 256 }),
    quick: { rounds: 2, amount: 10_000 },
    full: { rounds: 7, amount: 60_000 },
    rows: [
      {
        name: "roundtrip",
        about: "CPU per round trip, 32 connections at a time, by number of workers",
        ...cpuPerOperation,
      },
    ],
  },
  ...(["roundtrip", "download", "upload"] as const).map(tunnelMeasure),
];

/** The same of a tunnel: the CPU is that of the client's end alone. */
function tunnelMeasure(kind: "roundtrip" | "download" | "upload"): LoadMeasure {
  const name = `tunnel-${kind}`;
  const about =
    kind === "roundtrip"
      ? "CPU of the client's end per 256-byte round trip, 8 connections at a time"
      : `CPU of the client's end per GiB ${kind === "download" ? "to" : "from"} the program, 4 connections`;
  const isTransfer = kind !== "roundtrip";
  return {
    name,
    keys: "rsa",
    tunnel: true,
    task: (amount) =>
      kind === "roundtrip"
        ? { kind, count: amount, connections: 8, size: 256 }
        : { kind, bytes: amount, connections: 4 },
    quick: { rounds: 2, amount: isTransfer ? GiB / 8 : 10_000 },
    full: { rounds: 7, amount: isTransfer ? 2 * GiB : 60_000 },
    rows: [{ name, about, ...(isTransfer ? cpuPerGiB : cpuPerOperation) }],
  };
}

/** Measures of a process that was just started. */
export const STARTUP = {
  name: "startup",
  quick: 3,
  full: 15,
  listening: {
    name: "startup",
    unit: "ms",
    about: "from exec to the first connection accepted, by the kernel",
  },
  served: {
    name: "startup-served",
    unit: "ms",
    about: "from exec to the end of the first exchange of one byte, handshake included",
  },
} as const;

/** Resident memory: how many idle connections, and what it is called. */
export interface MemoryMeasure {
  readonly name: string;
  readonly connections: number;
  readonly rounds: number;
  readonly row: Row;
  /** Of the client's ends, in front of this proxy. */
  readonly tunnel?: true;
}

/** Resident memory per connection, at so many. */
export function memory(connections: number, rounds: number): MemoryMeasure {
  const name = `memory-${connections}`;
  const about = `resident memory per idle connection, at ${connections}, over what it is after 500 have come and gone`;
  return { name, connections, rounds, row: { name, unit: "kB", about } };
}

/** The same of a tunnel. */
export function tunnelMemory(connections: number, rounds: number): MemoryMeasure {
  const { row } = memory(connections, rounds);
  const name = `tunnel-memory-${connections}`;
  return {
    name,
    connections,
    rounds,
    tunnel: true,
    row: { ...row, name, about: `${row.about}; the client's end` },
  };
}
