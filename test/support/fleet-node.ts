// A node of a fleet without a proxy around it: what the data path would ask, a test asks.

import { parseStore } from "../../src/config/store-address.ts";
import type { FleetConfig } from "../../src/config/config.ts";
import type { FleetRefusal, Lease } from "../../src/connection/fleet-gate.ts";
import { Fleet } from "../../src/fleet/fleet.ts";
import type { ClientRule } from "../../src/state/limits.ts";
import { Log, until } from "./proxy.ts";

/** What a test says of a node; the rest is quick. */
export interface NodeOptions extends Partial<Omit<FleetConfig, "store" | "tls">> {
  readonly store: string;
  readonly password?: string;
  readonly rule?: ClientRule;
}

export class TestNode implements AsyncDisposable {
  readonly log = new Log();
  readonly fleet: Fleet;
  #options: NodeOptions;
  /** Leases that the node has granted and that are held, by client. */
  readonly held = new Map<string, Lease[]>();

  private constructor(options: NodeOptions) {
    this.#options = options;
    this.fleet = new Fleet({
      log: this.log,
      descriptors: { add() {}, giveBack() {} },
      now: () => Math.floor(performance.now()),
    });
  }

  static async start(options: NodeOptions): Promise<TestNode> {
    const node = new TestNode(options);
    await node.configure({});
    return node;
  }

  /** Changes what is said, as a reload does; null takes the node out of the fleet. */
  async configure(changes: Partial<NodeOptions> | null): Promise<void> {
    const {
      store,
      password,
      rule = { capacity: 10, fillRate: 3_600_000 },
      ...rest
    } = (this.#options = {
      ...this.#options,
      ...changes,
    });
    const url = parseStore(store)!;
    const config: FleetConfig = {
      namespace: "tcpproxy",
      node: undefined,
      timeout: 50,
      lease: 1_000,
      heartbeat: 200,
      whenDown: "share",
      tls: undefined,
      ...rest,
      store: { url, passwordFile: undefined },
    };
    const credentials = { password: password ?? url.password, tls: undefined };
    await this.fleet.configure(changes === null ? undefined : { config, credentials }, rule);
  }

  /** @returns the refusal, or undefined where it is granted; and how long it took, without what this process was late by itself */
  async ask(client = "alice@admin"): Promise<{ refusal: FleetRefusal | undefined; ms: number }> {
    const at = performance.now();
    let [seen, lag] = [at, 0];
    const ticking = setInterval(() => {
      const now = performance.now();
      lag += Math.max(0, now - seen - 5);
      seen = now;
    }, 2);
    const answer = await new Promise<Lease | FleetRefusal>((resolve) => this.fleet.ask(client, resolve));
    clearInterval(ticking);
    const ms = performance.now() - at - lag;
    if (typeof answer === "string") return { refusal: answer, ms };
    this.held.set(client, [...(this.held.get(client) ?? []), answer]);
    return { refusal: undefined, ms };
  }

  /** How many of so many at once are granted. */
  async granted(count: number, client?: string): Promise<number> {
    const answers = await Promise.all(Array.from({ length: count }, () => this.ask(client)));
    return answers.filter(({ refusal }) => refusal === undefined).length;
  }

  /** Gives back so many. */
  release(count: number, client = "alice@admin"): void {
    for (const lease of this.held.get(client)?.splice(0, count) ?? []) lease.release();
  }

  get up(): boolean {
    return this.fleet.status()?.up === true;
  }

  /** Waits until the store decides, or until it does not. */
  async whenUp(up = true): Promise<void> {
    await until(() => this.up === up, `the store is ${up ? "up" : "down"}`);
  }

  /** What the fleet knows of a client: by node. */
  async counts(client = "alice@admin"): Promise<Readonly<Record<string, number>>> {
    return (await this.fleet.clients()).find((each) => each.client === client)?.open ?? {};
  }

  /** Waits until the fleet knows this of a client. */
  async whenCounts(expected: Readonly<Record<string, number>>, client?: string): Promise<void> {
    const deadline = performance.now() + 10_000;
    for (;;) {
      const counts = await this.counts(client).catch(() => undefined);
      if (Bun.deepEquals(counts, expected)) return;
      if (performance.now() > deadline) throw new Error(`counts are ${JSON.stringify(counts)} to the end`);
      await Bun.sleep(5);
    }
  }

  messages(msg: string) {
    return this.log.lines.filter((line) => line.msg === msg);
  }

  async [Symbol.asyncDispose]() {
    await this.fleet.close();
  }
}
