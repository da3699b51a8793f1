// A pool of worker threads that die on command.

import { WorkerPool } from "../../src/engine/worker-pool.ts";
import { loadCredentials } from "../../src/config/credentials.ts";
import { atOnce } from "../../src/lib/portions.ts";
import { DescriptorBudget } from "../../src/lib/descriptors.ts";
import { resolveConfig } from "../../src/config/resolve.ts";
import { buildSnapshot, targetKeys } from "../../src/engine/snapshot.ts";
import { Ledger } from "../../src/state/ledger.ts";
import type { ProxyConfig } from "tcpproxy";
import { CHANNEL, type Death, type Way } from "./mortal-worker.ts";
import { Log, REFUSAL_INTERVAL, testConfig } from "./proxy.ts";

/** A worker pool that listens. It is closed, with its connections, at the end of the scope. */
export interface TestWorkerPool extends AsyncDisposable {
  readonly crew: WorkerPool;
  readonly port: number;
  readonly log: Log;
  readonly ledger: Ledger;
  readonly budget: DescriptorBudget;
  /** Makes one of the workers die. */
  kill(worker: number, way?: Way): void;
}

/** Starts a worker pool in front of these targets. */
export async function startWorkerPool(
  targets: string[],
  over: Partial<ProxyConfig> = {},
): Promise<TestWorkerPool> {
  const config = resolveConfig(
    testConfig(targets, { workers: 2, ...over }),
    { directory: "/", cores: 2 },
    [],
  );
  const ledger = Ledger.make({ workers: config.workers, targets: 16, clients: 64 });
  const budget = new DescriptorBudget(10_000);
  const slots = targetKeys(config).map((keys) => [...keys.keys()]);
  const settings = buildSnapshot({
    config,
    maxConnections: 1_000,
    credentials: atOnce(loadCredentials(config, [])),
    pairs: [0],
    slots,
  });
  const log = new Log();
  const module = new URL("./mortal-worker.ts", import.meta.url);
  const crew = new WorkerPool(settings, {
    ledger,
    budget,
    log,
    prefix: "test",
    module,
    refusalInterval: REFUSAL_INTERVAL,
  });
  crew.over.catch(() => {});
  const [address] = await crew.listen();
  const channel = new BroadcastChannel(CHANNEL);
  return {
    crew,
    port: address!.port,
    log,
    ledger,
    budget,
    kill: (worker, way = "an error thrown in a timer") =>
      channel.postMessage({ worker, way } satisfies Death),
    async [Symbol.asyncDispose]() {
      channel.close();
      void crew.close();
      crew.cut();
      await crew.over.catch(() => {});
    },
  };
}
