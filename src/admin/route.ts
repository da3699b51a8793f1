// What an endpoint of the admin API is: what it is asked with, and what it answers.

import { escapeInvisible } from "../lib/errors.ts";
import type { ApiError } from "./api-types.ts";
import type { Operations } from "./operations.ts";
import type { RecentRefusals } from "./recent.ts";
import type { Action } from "./requests.ts";
import type { Subject } from "./subject.ts";

/** To look, or to change things as well. */
export type Right = "read" | "operate";

/** A request that has passed the router, from somebody who has the right. */
export interface Call {
  readonly subject: Subject;
  readonly recent: RecentRefusals;
  readonly operations: Operations;
  /** Who asks, for the log: `alice@admin`, or `uid 1000` through the socket. */
  readonly actor: string;
  /** What the one who asks may do. */
  readonly right: Right;
  /** Only keys that the route allows, each once. */
  readonly query: ReadonlyMap<string, string>;
  /** The JSON object that was sent, empty where there was none; of GET always empty. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** Takes the parts of an answer that is sent piece by piece. */
export interface Output {
  /** @returns whether to go on writing; otherwise wait for {@link drained} */
  write(text: string): boolean;
  /** Resolves when the reader has taken what there was: false where it is gone, or takes nothing for too long. */
  drained(): Promise<boolean>;
  end(): void;
  /** Breaks it off: the reader sees that something is missing. */
  abort(): void;
  /** Called when it is over, one way or the other. */
  onClose(call: () => void): void;
  readonly closed: boolean;
}

/** What is sent back. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | ((output: Output) => void | Promise<void>);
  /** What was changed, for the log. */
  readonly detail?: string;
}

/** A row of the table in routes.ts. */
export interface Route {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  /** Its name in the log and in the metrics. */
  readonly action: Action;
  readonly right: Right;
  /** The keys that its query may have. */
  readonly query?: readonly string[];
  /** @throws Refused, or anything else, which counts as the proxy's own failure */
  handler(call: Call): Answer | Promise<Answer>;
}

/** A request that a rule forbids: a status from 400 to 499 and a short text. */
export class Refused extends Error {
  readonly status: number;
  /** More fields of the answer. */
  readonly more: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, more: Refused["more"] = {}, headers: Refused["headers"] = {}) {
    super(message);
    this.status = status;
    this.more = more;
    this.headers = headers;
  }
}

const JSON_TYPE = { "content-type": "application/json; charset=utf-8" };

export function json(value: unknown, status = 200, headers: Answer["headers"] = {}): Answer {
  const body = `${escapeInvisible(JSON.stringify(value))}\n`;
  return { status, headers: { ...JSON_TYPE, ...headers }, body };
}

export function errorAnswer(status: number, error: string, more: object = {}, headers = {}): Answer {
  return json({ error, ...more } satisfies ApiError, status, headers);
}
