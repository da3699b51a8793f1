// Tells what a relay of a proxy in the test's own thread has done, where nothing outside the proxy shows it.

import { Relay } from "../../src/connection/relay.ts";

/** Resolves after the next call of this method of any relay of the thread, those of a `Front` included. */
export function nextCall(method: "end" | "abandon"): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const original = Relay.prototype[method];
  Relay.prototype[method] = function (this: Relay) {
    Relay.prototype[method] = original;
    original.call(this);
    resolve();
  };
  return promise;
}
