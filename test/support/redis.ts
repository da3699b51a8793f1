// A real Redis for the time of a test, on a port of its own and without files that outlive it.

import { StoreConnection } from "../../src/fleet/store.ts";
import type { Reply } from "../../src/fleet/resp.ts";
import { Folder } from "./folder.ts";
import { freePort } from "./free-port.ts";

const PROGRAM = Bun.which("redis-server");

/** For `test.skipIf`: where there is none, its tests are skipped. */
export const noRedis = PROGRAM === null;

const NO_BUDGET = { add() {}, giveBack() {} };

export class Redis implements AsyncDisposable {
  readonly port: number;
  readonly folder = new Folder();
  readonly #args: readonly string[];
  readonly #password: string | undefined;
  #process: Bun.Subprocess | undefined;
  #store: StoreConnection | undefined;

  private constructor(port: number, args: readonly string[], password: string | undefined) {
    this.port = port;
    this.#args = args;
    this.#password = password;
  }

  /**
   * Starts one, and waits until it answers on its port.
   * @param args more of its command line
   */
  static async start(
    args: readonly string[] = [],
    { password, port = freePort() }: { password?: string; port?: number } = {},
  ): Promise<Redis> {
    const redis = new Redis(port, args, password);
    await redis.restart();
    return redis;
  }

  /** As `fleet.store` takes it. */
  get url(): string {
    return `redis://127.0.0.1:${this.port}/0`;
  }

  /** Starts it anew, with nothing in it. */
  async restart(): Promise<void> {
    const own = [
      "--port",
      String(this.port),
      "--bind",
      "127.0.0.1",
      "--save",
      "",
      "--dir",
      this.folder.path(""),
    ];
    const password = this.#password === undefined ? [] : ["--requirepass", this.#password];
    this.#process = Bun.spawn([PROGRAM!, ...own, ...password, ...this.#args], {
      stdout: "ignore",
      stderr: "ignore",
    });
    for (let i = 0; i < 200; i++) {
      try {
        return void (await this.send("PING"));
      } catch {
        await Bun.sleep(25);
      }
    }
    throw new Error("redis-server did not start");
  }

  /** Sends a command of a test's own. */
  async send(...words: (string | number)[]): Promise<Reply> {
    let store = this.#store;
    if (store === undefined) {
      const place = { address: { hostname: "127.0.0.1", port: this.port }, tls: undefined };
      this.#store = store = new StoreConnection(place, NO_BUDGET, () => (this.#store = undefined));
      await store.opened;
      if (this.#password !== undefined) await store.send(["AUTH", this.#password]);
    }
    return store.send(words);
  }

  /** Everything that it has, by key. */
  async keys(pattern = "*"): Promise<string[]> {
    return ((await this.send("KEYS", pattern)) as string[]).sort();
  }

  stop(): void {
    this.#process?.kill("SIGSTOP");
  }

  goOn(): void {
    this.#process?.kill("SIGCONT");
  }

  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#process?.exited;
    this.#store?.close();
    this.#store = undefined;
  }

  async [Symbol.asyncDispose]() {
    await this.kill();
    this.folder[Symbol.dispose]();
  }
}
