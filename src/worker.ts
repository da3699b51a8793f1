// A worker thread: an engine that follows commands. Importing this file makes the thread a worker.

import { setClock } from "./lib/clock.ts";
import { DescriptorBudget } from "./lib/descriptors.ts";
import { Engine } from "./engine/engine.ts";
import { WorkerGate } from "./fleet/link.ts";
import { StartError } from "./lib/errors.ts";
import { guarded, type LogLevel, type Logger } from "./lib/log.ts";
import { eventLevel } from "./engine/snapshot.ts";
import type { Command, WorkerEvent } from "./engine/messages.ts";
import { Ledger } from "./state/ledger.ts";

declare const self: Worker;

const report = (message: WorkerEvent) => self.postMessage(message);

/** The main thread writes the lines, so that no two of them mix. */
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
      level = eventLevel(data.snapshot);
      engine?.apply(data.snapshot);
      return report({ kind: "applied" });
    case "fleet":
      return fleet.heard(data.reply);
    case "close":
      return void engine?.close().then(() => report({ kind: "closed" }));
    case "cut":
      return engine?.cut();
    case "ask":
      // Before it has started, there is nothing to answer from: what it starts with, it is sent later.
      if (engine === undefined) return report({ kind: "answer", id: data.id, answer: undefined });
      return void engine
        .askThread(0, data.question)
        .then((answer) => report({ kind: "answer", id: data.id, answer }));
  }
};

function start(command: Command & { kind: "start" }): void {
  const { now, snapshot, ledger, worker, descriptors, column, prefix, refusalInterval, ports } = command;
  setClock(now);
  level = eventLevel(snapshot);
  engine = new Engine(snapshot, {
    ledger: Ledger.attach(ledger, worker),
    budget: new DescriptorBudget(descriptors, column),
    log: guarded(logger(), () => level),
    fleet,
    prefix,
    refusalInterval,
  });
  void engine.over.then(({ cut }) => report({ kind: "over", cut }));
  try {
    report({ kind: "listening", addresses: engine.listen(ports) });
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    report({ kind: "failed", message: error.message });
  }
}

// Sent last: a thread takes time to start, and the clock that the main thread sends with its answer must be current.
report({ kind: "ready" });
