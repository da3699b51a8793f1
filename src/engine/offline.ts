// The rules of a configuration without a proxy that runs on it: for questions of what would happen.

import type { ActiveConfig, ListenerState } from "../connection/admission.ts";
import type { LoadedConfig } from "../config/load.ts";
import { Slots } from "../state/balancer.ts";
import { Ledger } from "../state/ledger.ts";
import { makePools } from "../upstreams/pool.ts";
import { activate, listenerState } from "./activate.ts";
import { CounterRows } from "./counter-rows.ts";
import { buildSnapshot, targetKeys, type ListenerSnapshot } from "./snapshot.ts";

export interface OfflineRules {
  readonly rules: ActiveConfig;
  /** In the order of the configuration's listeners. */
  readonly listeners: readonly ListenerState[];
}

/** Makes them as the proxy and its engine do, over a ledger of their own: nothing is open, and nobody is blocked. */
export function offlineRules(
  loaded: Pick<LoadedConfig, "config" | "credentials" | "maxConnections">,
): OfflineRules {
  const { config } = loaded;
  const keys = targetKeys(config);
  const ledger = Ledger.make({ workers: 1, targets: keys.flat().length, clients: 1 });
  const slots = new Slots(ledger).assign(keys.flat()) as ReadonlyMap<string, number>;
  const pairs = [...config.listeners.keys()];
  const snapshot = buildSnapshot({
    ...loaded,
    pairs,
    slots: keys.map((each) => each.map((key) => slots.get(key) as number)),
    blocks: [],
    rows: new CounterRows(ledger).assign(config, pairs),
  });
  return {
    rules: activate(snapshot, makePools(snapshot, ledger)),
    listeners: snapshot.listeners.map((each, i) => listenerState(each as ListenerSnapshot, i)),
  };
}
