// A thread that sets its clock to the time in a message and answers each message with its own time.

import { monotonic, setClock } from "../../src/lib/clock.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<number | "now">) => {
  if (data !== "now") setClock(data);
  self.postMessage(monotonic());
};

self.postMessage("ready");
