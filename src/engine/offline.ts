// What would become of a client, by a configuration that no proxy runs on.

import type { ActiveConfig, ListenerState, Question } from "../connection/admission.ts";
import { explain, type Explanation } from "../connection/explanation.ts";
import type { Config, Listener } from "../config/config.ts";
import type { LoadedConfig } from "../config/load.ts";
import { Slots } from "../state/balancer.ts";
import { Ledger } from "../state/ledger.ts";
import { makePools } from "../upstreams/pool.ts";
import { activate, listenerState } from "./activate.ts";
import { CounterRows } from "./counter-rows.ts";
import { buildSnapshot, targetKeys, type ListenerSnapshot } from "./snapshot.ts";

export interface OfflineRules {
  readonly config: Config;
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
    config,
    rules: activate(snapshot, makePools(snapshot, ledger)),
    listeners: snapshot.listeners.map((each, i) => listenerState(each as ListenerSnapshot, i)),
  };
}

/** @param asked with the place of the listener in the configuration */
export function explainOffline(
  { config, rules, listeners }: OfflineRules,
  asked: Omit<Question, "listener"> & { readonly listener: number },
): Explanation {
  const listener = listeners[asked.listener] as ListenerState;
  const place = config.listeners[asked.listener] as Listener;
  return explain({ ...asked, listener }, { rules, place, live: false });
}
