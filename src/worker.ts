// A worker thread: an engine that does what it is told. Importing this file is being one.

import { setClock } from "./lib/clock.ts";
import { DescriptorBudget } from "./lib/descriptors.ts";
import { Engine } from "./engine/engine.ts";
import { WorkerGate } from "./fleet/link.ts";
import { StartError } from "./lib/errors.ts";
import { guarded, type LogLevel, type Logger } from "./lib/log.ts";
import type { Command, WorkerEvent } from "./engine/messages.ts";
import { Ledger } from "./state/ledger.ts";

declare const self: Worker;

const report = (message: WorkerEvent) => self.postMessage(message);

/** Lines are written in the main thread, so that no two of them mix. */
function logger(): Logger {
  const pass =
    (level: keyof Logger): Logger["info"] =>
    (message, fields) =>
      report({ kind: "log", level, message, fields });
  return { debug: pass("debug"), info: pass("info"), warn: pass("warn"), error: pass("error") };
}

const fleet = new WorkerGate((request) => report({ kind: "fleet", request }));
let engine: Engine | undefined;
let level: LogLevel = "info";

self.onmessage = ({ data }: MessageEvent<Command>) => {
  switch (data.kind) {
    case "start":
      return start(data);
    case "apply":
      level = data.settings.config.logLevel;
      engine?.apply(data.settings);
      return report({ kind: "applied" });
    case "fleet":
      return fleet.heard(data.reply);
    case "close":
      return void engine?.close().then(() => report({ kind: "closed" }));
    case "cut":
      return engine?.cut();
  }
};

function start(order: Command & { kind: "start" }): void {
  const { now, settings, ledger, worker, descriptors, column, prefix, ports } = order;
  setClock(now);
  level = settings.config.logLevel;
  engine = new Engine(settings, {
    ledger: Ledger.attach(ledger, worker),
    budget: new DescriptorBudget(descriptors, column),
    log: guarded(logger(), () => level),
    fleet,
    prefix,
  });
  void engine.over.then(({ cut }) => report({ kind: "over", cut }));
  try {
    report({ kind: "listening", addresses: engine.listen(ports) });
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    report({ kind: "failed", message: error.message });
  }
}

// Not before: a thread takes its time to come up, and the clock that it is told of goes on.
report({ kind: "ready" });
