// The proxy as a service of systemd: tells it when the proxy is ready, reloads and stops, where it listens, how many
// connections are open, and that all its threads answer.

import type { Phase, Proxy } from "../api.ts";
import { formatAddress } from "../lib/address.ts";
import type { Manager } from "../lib/systemd.ts";

/** How often the status is looked at, in milliseconds. systemd hears of it if it has changed. */
const STATUS_MS = 5_000;

/** What it looks at. */
export type Watched = Pick<Proxy, "addresses" | "stats" | "responds">;

export class Service {
  readonly #manager: Manager;
  readonly #proxy: () => Watched;
  #phase: Phase | undefined;
  /** The status that systemd has. */
  #told = "";

  /** @param proxy is asked once the first phase has begun */
  constructor(manager: Manager, proxy: () => Watched) {
    this.#manager = manager;
    this.#proxy = proxy;
  }

  /** The proxy has entered this phase. */
  enter(phase: Phase): void {
    const { notifier, microseconds } = this.#manager;
    const isFirst = this.#phase === undefined;
    this.#phase = phase;
    this.#told = this.#status();
    const status = `STATUS=${this.#told}`;
    if (phase === "running") notifier.tell("READY=1", status);
    else if (phase === "reloading") notifier.tell("RELOADING=1", `MONOTONIC_USEC=${microseconds()}`, status);
    else notifier.tell("STOPPING=1", status);
    if (!isFirst) return;
    setInterval(() => this.#follow(), STATUS_MS).unref();
    void this.#live();
  }

  #status(): string {
    const proxy = this.#proxy();
    const where = proxy.addresses.map(formatAddress).join(", ");
    const { connections } = proxy.stats();
    const open = `${connections} ${connections === 1 ? "connection" : "connections"} open`;
    switch (this.#phase) {
      case "reloading":
        return `Reading the configuration again; listening on ${where}; ${open}`;
      case "draining":
        return `Stopping; ${open}`;
      default:
        return `Listening on ${where}; ${open}`;
    }
  }

  #follow(): void {
    const status = this.#status();
    if (status === this.#told) return;
    this.#told = status;
    this.#manager.notifier.mention(`STATUS=${status}`);
  }

  /** At half of the time, a sign of life, once every thread has answered. One that hangs does not: systemd acts then. */
  async #live(): Promise<void> {
    const { watchdog, notifier } = this.#manager;
    if (watchdog === undefined) return;
    for (;;) {
      await this.#proxy().responds();
      notifier.mention("WATCHDOG=1");
      await new Promise((resolve) => setTimeout(resolve, watchdog / 2).unref());
    }
  }
}
