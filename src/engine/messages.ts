// The messages between a worker pool and its worker threads.

import type { Address } from "../lib/address.ts";
import type { DescriptorMemory } from "../lib/descriptors.ts";
import type { FleetReply, FleetRequest } from "../fleet/link.ts";
import type { Fields, Logger } from "../lib/log.ts";
import type { Answers, Question } from "./questions.ts";
import type { Snapshot } from "./snapshot.ts";
import type { LedgerMemory } from "../state/ledger.ts";

/** To a worker. The first is `start`, once it is ready. */
export type Command =
  | {
      readonly kind: "start";
      /** The main thread's clock. */
      readonly now: number;
      readonly snapshot: Snapshot;
      readonly ledger: LedgerMemory;
      /** Its number in the ledger. */
      readonly worker: number;
      readonly descriptors: DescriptorMemory;
      /** Its column in the count of descriptors. */
      readonly column: number;
      readonly prefix: string;
      readonly refusalInterval: number | undefined;
      /** Ports that the system has picked for another worker. */
      readonly ports: readonly number[];
    }
  | { readonly kind: "apply"; readonly snapshot: Snapshot }
  | { readonly kind: "fleet"; readonly reply: FleetReply }
  | { readonly kind: "close" }
  | { readonly kind: "ask"; readonly id: number; readonly question: Question }
  | { readonly kind: "cut" };

/** From a worker. */
export type WorkerEvent =
  /** The worker is ready for commands. */
  | { readonly kind: "ready" }
  | { readonly kind: "listening"; readonly addresses: readonly Address[] }
  /** The worker could not listen. */
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "applied" }
  | { readonly kind: "answer"; readonly id: number; readonly answer: Answers[keyof Answers] | undefined }
  | {
      readonly kind: "log";
      readonly level: keyof Logger;
      readonly message: string;
      readonly fields: Fields;
    }
  | { readonly kind: "fleet"; readonly request: FleetRequest }
  /** The worker's ports are closed. */
  | { readonly kind: "closed" }
  /** The worker was closed, and its last connection is gone. */
  | { readonly kind: "over"; readonly cut: number };
