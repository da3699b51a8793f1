// What can be asked of the threads that carry connections, and what they answer: plain values, which another thread can be sent.

import type { Block } from "../auth/blocks.ts";
import type { RevokedFor } from "../connection/admission.ts";
import type { ConnectionFilter } from "../connection/view.ts";
import type { Snapshot } from "./snapshot.ts";

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
  | { readonly about: "clients" }
  /** Ends connections that match, and answers when they are gone or their deadline is set. */
  | {
      readonly about: "kick";
      readonly filter: ConnectionFilter;
      /** Only these; undefined for all that match. */
      readonly ids: readonly string[] | undefined;
      /** Milliseconds over which they end, each at a moment by chance; 0 for at once. */
      readonly grace: number;
      /** What the operator says, for the log. */
      readonly why: string | undefined;
      /** Counts, and ends none. */
      readonly dryRun: boolean;
    }
  /**
   * Puts these blocks in force in place of those before, closes what they hold for, and answers when that is gone: from
   * then on nobody blocked is open, or gets in.
   */
  | { readonly about: "block"; readonly blocks: readonly Block[] }
  /** Which open connections a snapshot would end, and why. Nothing changes. */
  | { readonly about: "forecast"; readonly snapshot: Snapshot }
  /** Whether its event loop turns. */
  | { readonly about: "life" };

/** The answers, by what was asked about. */
export interface Answers {
  readonly connections: {
    /** A JSON object for each connection, each on a line of its own. */
    readonly lines: string;
    /** What to ask on with as `after`; undefined where that was all. */
    readonly next: number | undefined;
  };
  readonly clients: readonly ClientUse[];
  readonly kick: { readonly ids: readonly string[] };
  readonly block: { readonly closed: number };
  readonly forecast: readonly Ending[];
  readonly life: true;
}

/** An open connection that a reload would end. */
export interface Ending {
  readonly id: string;
  readonly client: string;
  readonly remote: string;
  readonly upstream: string;
  /** Why, as the log would say it: the reason of the end or, with `authorization_revoked`, its detail. */
  readonly reason: EndReason;
}

export type EndReason = RevokedFor | "max_duration" | "idle_timeout";

/** What one client has open in one thread. */
export interface ClientUse {
  readonly client: string;
  readonly open: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export type AnswerTo<Q extends Question> = Answers[Q["about"]];
