// A thread that sets its clock by what it is told, and then says what time it is whenever it is asked.

import { monotonic, setClock } from "../../src/lib/clock.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<number | "now">) => {
  if (data !== "now") setClock(data);
  self.postMessage(monotonic());
};

self.postMessage("ready");
