// An open connection as operators see it, and which of them they ask for. Pure.

import { rangeList } from "../lib/source.ts";
import type { Phase } from "./deadlines.ts";

/** An admitted connection at a moment. The names are those of the log. */
export interface ConnectionView {
  readonly id: string;
  readonly client: string;
  readonly group: string;
  readonly upstream: string;
  /** Undefined while there is none. */
  readonly target: string | undefined;
  readonly remote: string;
  /** The balancer that has named `remote` in a PROXY header; undefined for none. */
  readonly peer: string | undefined;
  readonly listener: string;
  readonly serverName: string | undefined;
  readonly phase: Phase;
  readonly ageMs: number;
  /** Since a byte last moved, either way; accurate to one tick. */
  readonly idleMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** When the client's certificate ends (ISO 8601). */
  readonly notAfter: string;
}

/** Which connections are asked for: all that match every key that is given. */
export interface ConnectionFilter {
  readonly id?: string;
  readonly client?: string;
  readonly group?: string;
  readonly upstream?: string;
  /** As the configuration writes it. */
  readonly target?: string;
  /** An address or a range of them, as {@link parseRange} reads it. */
  readonly from?: string;
}

/** The part of a connection that a filter looks at. */
export type Filtered = Pick<ConnectionView, "id" | "client" | "group" | "upstream" | "target" | "remote">;

/** Answers whether a connection matches. */
export function matcher({ from, ...exact }: ConnectionFilter): (connection: Filtered) => boolean {
  const isFrom = from === undefined ? () => true : rangeList([from]);
  const wanted = Object.entries(exact) as [keyof typeof exact, string | undefined][];
  const given = wanted.filter(([, value]) => value !== undefined);
  return (connection) =>
    given.every(([key, value]) => connection[key] === value) && isFrom(hostOf(connection.remote));
}

/** The address in `host:port` or `[host]:port`. */
export function hostOf(remote: string): string {
  return remote.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
}
