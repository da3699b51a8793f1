// The interface that an engine and a pool of worker threads share.

import type { Address } from "../lib/address.ts";
import type { AnswerTo, Question } from "./questions.ts";
import type { Snapshot } from "./snapshot.ts";

/** Carries connections: an engine in this thread, or a pool of worker threads with one engine each. */
export interface Runner {
  listen(): Address[] | Promise<Address[]>;
  apply(snapshot: Snapshot): void | Promise<void>;
  /** Resolves when all ports are closed. */
  close(): Promise<void>;
  cut(): void;
  /** Asks every thread that carries connections. @returns an answer from each one that is alive */
  ask<Q extends Question>(question: Q): Promise<AnswerTo<Q>[]>;
  /**
   * Asks one of them.
   * @param thread from 0 to the number of `workers` - 1
   * @returns undefined where it is not alive, or dies over it
   */
  askThread<Q extends Question>(thread: number, question: Q): Promise<AnswerTo<Q> | undefined>;
  readonly over: Promise<{ cut: number }>;
}
