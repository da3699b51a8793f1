// What a new snapshot makes of a listener: its trust and kind of identity, and whom it has to check again. A reload puts it in force; a
// forecast only asks about it. Pure: it changes nothing.

import type { ListenerState } from "../connection/admission.ts";
import { identityRule } from "../auth/identity-rule.ts";
import { balancerRule, networkRule } from "../auth/networks.ts";
import { trustIn } from "../auth/trust.ts";
import { isSameTrust } from "./same-trust.ts";
import type { ListenerSnapshot } from "./snapshot.ts";

/** A listener under another snapshot. */
export interface NextListener {
  readonly state: ListenerState;
  /** The certificates of its open connections have to be checked again. */
  readonly trustChanged: boolean;
}

/**
 * @param before the snapshot that it runs on
 * @param next undefined if it has none any more
 * @param closing the port is closing, and keeps its TLS context
 */
export function nextListener(
  state: ListenerState,
  before: ListenerSnapshot,
  next: ListenerSnapshot | undefined,
  closing: boolean,
): NextListener {
  if (next === undefined) return { state: { ...state, removed: true }, trustChanged: false };
  const { listener, credentials } = next;
  const { upstream } = listener;
  const isSame = Bun.deepEquals(listener.identity, state.identity.settings);
  const identity = isSame ? state.identity : identityRule(listener.identity);
  const rules = { networks: networkRule(listener), balancers: balancerRule(listener) };
  if (isSameTrust(credentials, before.credentials)) {
    return { state: { ...state, upstream, identity, ...rules }, trustChanged: !isSame };
  }
  const trust = trustIn(credentials, state.trust);
  const generation = state.generation + 1;
  const isNew = trust.authorities !== state.trust.authorities;
  const authoritiesSince = !isNew ? state.authoritiesSince : closing ? Infinity : generation;
  const changed = { upstream, identity, ...rules, trust, generation, authoritiesSince };
  return { state: { ...state, ...changed }, trustChanged: true };
}
