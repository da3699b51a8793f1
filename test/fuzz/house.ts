// A real proxy in front of a real echo server, and what must be true of it between cases.

import { readdirSync } from "node:fs";
import { connect, echoOrigin, Origin } from "../support/peer.ts";
import type { Random } from "../support/random.ts";
import { startProxy, until, type Line, type TestProxy } from "../support/proxy.ts";

/** A target of the fuzzer, as the runner uses it. */
export interface Target extends AsyncDisposable {
  /** Runs one case, with all choices from `random`. Throws where something is wrong. */
  one(random: Random): Promise<void>;
  /** Throws where something is wrong between cases. */
  rest(): Promise<void>;
}

/** Log messages that only a bug causes. */
const BUGS = ["internal error", "worker failed", "worker died"];

/** The configuration of every house. Its clients share one address, so that address is exempt from limits. */
export const houseConfig = {
  handshakeTimeout: "2s",
  connectTimeout: "2s",
  watch: false,
  handshakes: { exempt: ["127.0.0.0/8"] },
};

export class House implements AsyncDisposable {
  readonly #origin: Origin;
  readonly #proxy: TestProxy;
  #descriptors = Infinity;

  private constructor(origin: Origin, proxy: TestProxy) {
    this.#origin = origin;
    this.#proxy = proxy;
  }

  static async open(over: Parameters<typeof startProxy>[1] = {}, origin = echoOrigin()): Promise<House> {
    const config = { ...houseConfig, ...over };
    const house = new House(origin, await startProxy([origin.target], config));
    await house.rest();
    house.#descriptors = descriptors();
    return house;
  }

  get port(): number {
    return this.#proxy.port;
  }

  get proxy(): TestProxy {
    return this.#proxy;
  }

  /** How many connections have reached the target since the last rest. */
  get reached(): number {
    return this.#origin.accepted.length;
  }

  /** Lines of the log since the last rest. */
  get lines(): readonly Line[] {
    return this.#proxy.log.lines;
  }

  /** Waits until no connection is held. */
  async empty(): Promise<void> {
    const { proxy } = this.#proxy;
    await until(() => proxy.stats().connections === 0, "no connection is held");
  }

  /** Checks that nothing is held or leaked, that no bug was logged, and that an authorized client is served. */
  async rest(): Promise<void> {
    const { proxy, log } = this.#proxy;
    const open = () => proxy.stats().upstreams.flatMap(({ targets }) => targets.map((each) => each.open));
    await this.empty();
    if (open().some((count) => count !== 0)) throw new Error(`targets are held: ${open().join(" ")}`);
    const client = await connect(this.port);
    await client.send("still there?");
    if (String(await client.read(12)) !== "still there?") throw new Error("a good client is not served");
    client.close();
    await this.empty();
    const bug = log.lines.find(({ msg }) => BUGS.includes(msg));
    if (bug !== undefined) throw new Error(JSON.stringify(bug));
    log.lines.length = 0;
    this.#origin.accepted.length = 0;
    await until(() => descriptors() <= this.#descriptors + 4, "descriptors are back");
  }

  async [Symbol.asyncDispose]() {
    await this.#proxy[Symbol.asyncDispose]();
    this.#origin[Symbol.dispose]();
  }
}

function descriptors(): number {
  return process.platform === "linux" ? readdirSync("/proc/self/fd").length : 0;
}
