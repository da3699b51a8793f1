// What can be asked of the threads that carry connections, and what they answer: plain values, which another thread can be sent.

import type { ConnectionFilter } from "../connection/view.ts";

/** To every thread, or to one. */
export type Question =
  /** Open connections, in the order of their numbers, so many at a time. */
  | {
      readonly about: "connections";
      readonly filter: ConnectionFilter;
      /** Only connections whose number in the thread is higher. */
      readonly after: number;
      readonly limit: number;
    }
  /** Clients with open connections. */
  | { readonly about: "clients" };

/** The answers, by what was asked about. */
export interface Answers {
  readonly connections: {
    /** A JSON object for each connection, each on a line of its own. */
    readonly lines: string;
    /** What to ask on with as `after`; undefined where that was all. */
    readonly next: number | undefined;
  };
  readonly clients: readonly ClientUse[];
}

/** What one client has open in one thread. */
export interface ClientUse {
  readonly client: string;
  readonly open: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export type AnswerTo<Q extends Question> = Answers[Q["about"]];
