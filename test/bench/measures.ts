// What is measured, and how much of it. A measure is a job for the generator and a figure made of its outcome and of
// what the kernel says the proxy's process has used meanwhile.

import type { Job, Outcome } from "./generator.ts";
import type { Keys } from "./peers.ts";

/** A job without what all jobs have in common. */
export type Task = Job extends infer J ? (J extends Job ? Omit<J, "port" | "certs"> : never) : never;

/** One figure per round and peer. The smaller the better, all of them. */
export interface Measure {
  readonly name: string;
  readonly unit: string;
  /** What it is, in a few words. */
  readonly about: string;
  readonly keys: Keys;
}

/** Runs a task on a peer that is up, and makes figures of the outcome and of the CPU in milliseconds it cost. */
export interface LoadMeasure extends Measure {
  readonly task: (scale: number) => Task;
  readonly figure: (outcome: Outcome, cpu: number) => number;
  /** Further figures of the same run, by name and unit. */
  readonly also?: Record<string, { unit: string; figure: (outcome: Outcome) => number }>;
  /** Handshakes go on beside it without pause, so many at a time. */
  readonly storm?: number;
}

const GiB = 2 ** 30;

const percentile = (share: number) => (outcome: Outcome) =>
  outcome.latencies![
    Math.min(outcome.latencies!.length - 1, Math.floor(outcome.latencies!.length * share))
  ]! * 1_000;

const perOperation = (outcome: Outcome, cpu: number) => (cpu / outcome.operations) * 1_000;
const perGiB = (outcome: Outcome, cpu: number) => cpu / 1_000 / (outcome.operations / GiB);

/** Measures under load; `scale` is 1 for a full run and less for a quick one. */
export const LOADS: readonly LoadMeasure[] = [
  {
    name: "handshake-rsa",
    unit: "µs",
    about: "CPU per full mutual handshake, dial, one byte there and back, end; RSA-2048",
    keys: "rsa",
    task: (scale) => ({ kind: "connect", count: Math.round(1_500 * scale), concurrency: 8 }),
    figure: perOperation,
  },
  {
    name: "handshake-ecdsa",
    unit: "µs",
    about: "the same with ECDSA P-256",
    keys: "ecdsa",
    task: (scale) => ({ kind: "connect", count: Math.round(3_000 * scale), concurrency: 8 }),
    figure: perOperation,
  },
  {
    name: "roundtrip",
    unit: "µs",
    about: "CPU per 256-byte round trip, 8 connections at a time",
    keys: "rsa",
    task: (scale) => ({ kind: "roundtrip", count: Math.round(60_000 * scale), connections: 8, size: 256 }),
    figure: perOperation,
    also: {
      "roundtrip-p50": { unit: "µs", figure: percentile(0.5) },
      "roundtrip-p99": { unit: "µs", figure: percentile(0.99) },
      "roundtrip-p99.9": { unit: "µs", figure: percentile(0.999) },
    },
  },
  {
    name: "download",
    unit: "s",
    about: "CPU per GiB to the client, 4 connections",
    keys: "rsa",
    task: (scale) => ({ kind: "download", bytes: Math.round(2 * GiB * scale), connections: 4 }),
    figure: perGiB,
  },
  {
    name: "upload",
    unit: "s",
    about: "CPU per GiB from the client, 4 connections",
    keys: "rsa",
    task: (scale) => ({ kind: "upload", bytes: Math.round(2 * GiB * scale), connections: 4 }),
    figure: perGiB,
  },
  {
    name: "storm-p99",
    unit: "µs",
    about: "p99 of 256-byte round trips on 8 live connections while 16 clients handshake without pause",
    keys: "rsa",
    task: (scale) => ({ kind: "roundtrip", count: Math.round(8_000 * scale), connections: 8, size: 256 }),
    figure: percentile(0.99),
    storm: 16,
  },
];

/** Measures of a process that was just started. */
export const STARTUP: Measure = {
  name: "startup",
  unit: "ms",
  about: "from exec to the first accepted connection",
  keys: "rsa",
};

/** Resident memory: how many idle connections, and what it is called. */
export const memory = (connections: number): Measure & { connections: number } => ({
  name: `memory-${connections}`,
  unit: "kB",
  about: `resident memory per idle connection, at ${connections}`,
  keys: "rsa",
  connections,
});
