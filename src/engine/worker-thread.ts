// A worker thread as the pool sees it: what it is waited for.

import type { Address } from "../lib/address.ts";
import type { FleetLink } from "../fleet/link.ts";
import type { Answers } from "./questions.ts";

/** The source excerpt that Bun prints before an error; strip it. In the binary it is thousands of characters long. */
const SOURCE_EXCERPT = /^(?: *\d+ \| .*\n)+ *\^\n/;

/** A worker thread, alive. */
export interface WorkerThread {
  readonly thread: Worker;
  readonly column: number;
  readonly fleet: FleetLink | undefined;
  /** Settles the promise of the caller that waits for the worker's answer. */
  listening: PromiseWithResolvers<readonly Address[]>;
  applied: PromiseWithResolvers<void>[];
  /** Questions without an answer yet, by their numbers. */
  asked: Map<number, (answer: Answers[keyof Answers] | undefined) => void>;
  closed: PromiseWithResolvers<void>;
  gone: PromiseWithResolvers<void>;
}

export function workerThread(thread: Worker, column: number, fleet: FleetLink | undefined): WorkerThread {
  return {
    ...{ thread, column, fleet },
    listening: Promise.withResolvers(),
    applied: [],
    asked: new Map(),
    closed: Promise.withResolvers(),
    gone: Promise.withResolvers(),
  };
}

/** What an error in a thread says. */
export function withoutSource(message: string): string {
  return message.replace(SOURCE_EXCERPT, "").trimEnd();
}
