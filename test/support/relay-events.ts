// What a relay in the test's own thread does inside the proxy, where nothing outside shows it.

import { Relay } from "../../src/connection/relay.ts";

/** Resolves at the next call of this method of any relay, once the call is over. */
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
