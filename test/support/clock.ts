// A thread that says what time it is, once it is asked.

import { monotonic } from "../../src/clock.ts";

declare const self: Worker;

self.onmessage = () => self.postMessage(monotonic());
