// From a snapshot to what decisions are made by: the rules in force, and what each listener trusts. Engines make them to
// run on; a question that no connection asks (offline.ts) makes them too, so that both get the same answer.

import { Blocks } from "../auth/blocks.ts";
import { identityRule } from "../auth/identity-rule.ts";
import { balancerRule, networkRule } from "../auth/networks.ts";
import { Router } from "../auth/server-name.ts";
import { trustIn } from "../auth/trust.ts";
import type { ActiveConfig, ListenerState } from "../connection/admission.ts";
import { formatAddress } from "../lib/address.ts";
import { rangeList } from "../lib/source.ts";
import type { Pool } from "../upstreams/pool.ts";
import type { ListenerSnapshot, Snapshot } from "./snapshot.ts";

export function activate({ config, blocks, rows }: Snapshot, pools: ReadonlyMap<string, Pool>): ActiveConfig {
  const isExempt = rangeList(config.handshakes.exempt);
  return {
    config,
    isExempt,
    router: new Router(config.upstreams, config.fallback),
    pools,
    blocks: new Blocks(blocks),
    routes: rows.routes,
  };
}

/** A listener at its beginning. @param row its place among the ports of the start */
export function listenerState({ listener, credentials }: ListenerSnapshot, row: number): ListenerState {
  return {
    address: formatAddress(listener.address),
    row,
    upstream: listener.upstream,
    identity: identityRule(listener.identity),
    networks: networkRule(listener),
    balancers: balancerRule(listener),
    trust: trustIn(credentials),
    generation: 0,
    authoritiesSince: 0,
    removed: false,
  };
}
