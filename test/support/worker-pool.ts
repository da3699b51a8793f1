// A pool of worker threads that die on command.

import { WorkerPool } from "../../src/engine/worker-pool.ts";
import { loadConfig } from "../../src/config/load.ts";
import { FileStamps } from "../../src/config/watch.ts";
import { atOnce } from "../../src/lib/portions.ts";
import { DescriptorBudget } from "../../src/lib/descriptors.ts";
import { SnapshotBuilder } from "../../src/engine/snapshot-builder.ts";
import type { Snapshot } from "../../src/engine/snapshot.ts";
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
  readonly builder: SnapshotBuilder;
  /** What it was started with. */
  readonly snapshot: Snapshot;
  /** Makes one of the workers die. */
  kill(worker: number, way?: Way): void;
}

/** Starts a worker pool in front of these targets. */
export async function startWorkerPool(
  targets: string[],
  over: Partial<ProxyConfig> = {},
): Promise<TestWorkerPool> {
  const written = testConfig(targets, { workers: 2, ...over });
  const loaded = atOnce(loadConfig(written, { seen: new FileStamps() }));
  const ledger = Ledger.make({ workers: loaded.config.workers, targets: 16, clients: 64 });
  const budget = new DescriptorBudget(10_000);
  const builder = new SnapshotBuilder(ledger);
  const settings = builder.build({ ...loaded, maxConnections: 1_000 }, { pairs: [0] });
  builder.follow(settings);
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
    builder,
    snapshot: settings,
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
