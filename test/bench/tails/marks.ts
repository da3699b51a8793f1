// Loaded into the proxy before its own code: makes its periodic timer, the tick, visible in the kernel's trace. A system
// call without effect marks where it begins and ends.

import { dlopen } from "bun:ffi";

const { getpgid } = dlopen("libc.so.6", { getpgid: { args: ["i32"], returns: "i32" } }).symbols;
const { setInterval: plain } = globalThis;

globalThis.setInterval = ((act: () => void, ms?: number) =>
  plain(() => {
    getpgid(0x7ff0001);
    act();
    getpgid(0x7ff0002);
  }, ms)) as typeof setInterval;
