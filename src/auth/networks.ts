// Which addresses a listener lets in: its `deny` comes before its `allow`, and an `allow` refuses all other addresses.
// Pure.

import { rangeList } from "../lib/source.ts";

/** Ranges as {@link parseRange} reads them; undefined for no list. */
export interface Networks {
  readonly allow: readonly string[] | undefined;
  readonly deny: readonly string[] | undefined;
}

/** The list that refuses an address; undefined if none does. */
export type NetworkRule = (address: string | undefined) => keyof Networks | undefined;

/** @returns undefined where every address is let in: then there is nothing to ask */
export function networkRule({ allow, deny }: Networks): NetworkRule | undefined {
  if (allow === undefined && deny === undefined) return undefined;
  const isDenied = rangeList(deny ?? []);
  const isAllowed = allow === undefined ? () => true : rangeList(allow);
  return (address) => (isDenied(address) ? "deny" : isAllowed(address) ? undefined : "allow");
}

/** Whether an address is a balancer's, whose connections begin with a PROXY header; undefined where there is none. */
export function balancerRule({
  acceptProxy,
}: {
  readonly acceptProxy: { readonly from: readonly string[] } | undefined;
}): ((address: string | undefined) => boolean) | undefined {
  return acceptProxy && rangeList(acceptProxy.from);
}

/** The place in a list of the first range that has the address; -1 if none has it. */
export function placeOf(address: string, list: readonly string[] | undefined): number {
  return (list ?? []).findIndex((range) => rangeList([range])(address));
}

/** What the log says of a refusal. */
export function networkDetail(list: keyof Networks): string {
  return list === "deny" ? "in deny" : "not in allow";
}
