// Which open connections a snapshot would end, if a reload put it in force now. It asks each connection what a reload
// would ask it, and changes nothing.

import { Blocks } from "../auth/blocks.ts";
import { Router } from "../auth/server-name.ts";
import type { DecisionRules, ListenerState, Policy } from "../connection/admission.ts";
import type { Connection } from "../connection/connection.ts";
import type { NextListener } from "./next-listener.ts";
import type { Ending } from "./questions.ts";
import type { Snapshot } from "./snapshot.ts";

/** What a snapshot decides by, without the targets that it would connect to. */
export function policyOf({
  config,
  blocks,
}: Pick<Snapshot, "blocks"> & {
  readonly config: Pick<Snapshot["config"], "upstreams" | "fallback">;
}): DecisionRules {
  const pools = config.upstreams.map((upstream): [string, Policy] => [
    upstream.name,
    { upstream, removed: false },
  ]);
  return {
    router: new Router(config.upstreams, config.fallback),
    pools: new Map(pools),
    blocks: new Blocks(blocks),
  };
}

/** @param listeners by the state that each is in now */
export function* forecast(
  snapshot: Snapshot,
  listeners: ReadonlyMap<ListenerState, NextListener>,
  { connections, now }: { readonly connections: Iterable<Connection>; now(): number },
): Generator<void, readonly Ending[]> {
  const rules = { ...policyOf(snapshot), config: snapshot.config };
  const endings: Ending[] = [];
  for (const connection of [...connections]) {
    const next = listeners.get(connection.listener);
    const reason = next && connection.forecast(rules, next.state, next.trustChanged);
    const view = reason && connection.view(now());
    if (view) {
      const { id, client, remote, upstream } = view;
      endings.push({ id, client, remote, upstream, reason });
    }
    yield;
  }
  return endings;
}
