// A worker thread that dies on command, in the way that the command says.

import "../../src/worker.ts";
import type { Command } from "../../src/engine/messages.ts";

/** The name of the channel for commands. */
export const CHANNEL = "mortal";

const overflow = (): number => 1 + overflow();

const WAYS = {
  "an error thrown in a timer": () => void setTimeout(() => fail(), 1),
  "a rejection that nobody handles": () => void Promise.reject(new Error("gone wrong")),
  "a stack that overflows": () => void overflow(),
  "an error while it is being told something": () => fail(),
  "its own end": () => process.exit(7),
};
export type Way = keyof typeof WAYS;

/** A command to die. */
export interface Death {
  readonly worker: number;
  readonly way: Way;
}

declare const self: Worker;

function fail(): never {
  throw new Error("gone wrong");
}

if (!Bun.isMainThread) {
  const obey = self.onmessage;
  let me: number | undefined;
  self.onmessage = (event: MessageEvent<Command>) => {
    if (event.data.kind === "start") me = event.data.worker;
    obey?.call(self, event);
  };
  new BroadcastChannel(CHANNEL).onmessage = ({ data }) => {
    const { worker, way } = data as Death;
    if (worker === me) WAYS[way]();
  };
}
