// A proxy in the test's own process, and its log.

import {
  createProxy,
  type Fields,
  type Logger,
  type Proxy,
  type ProxyConfig,
  type ProxyOptions,
} from "tcpproxy";
import { certPath } from "./peer.ts";

/** Tests that wait for a number of refusals wait for the line that counts them. */
export const REFUSAL_INTERVAL = 50;

/** One line of the log. */
export interface Line extends Record<string, unknown> {
  level: string;
  msg: string;
  reason?: string;
}

/** Collects the lines of a log, and lets a test wait for one. */
export class Log implements Logger {
  /** All lines. A line that counts several events is repeated as often. */
  readonly lines: Line[] = [];
  /** All lines, each once. */
  readonly written: Line[] = [];
  #waiting: { matches: (line: Line) => boolean; resolve: (line: Line) => void }[] = [];

  debug = (msg: string, fields: Fields) => this.#add({ level: "debug", msg, ...fields });
  info = (msg: string, fields: Fields) => this.#add({ level: "info", msg, ...fields });
  warn = (msg: string, fields: Fields) => this.#add({ level: "warn", msg, ...fields });
  error = (msg: string, fields: Fields) => this.#add({ level: "error", msg, ...fields });

  /** Waits for the first line with this message and reason, which may have been written already. */
  async line(msg: string, reason?: string): Promise<Line> {
    const matches = (line: Line) => line.msg === msg && (reason === undefined || line.reason === reason);
    return this.lines.find(matches) ?? new Promise((resolve) => this.#waiting.push({ matches, resolve }));
  }

  /** Waits until there are at least `count` lines with this message. Returns all of them. */
  async count(msg: string, count: number): Promise<Line[]> {
    const all = () => this.lines.filter((line) => line.msg === msg);
    while (all().length < count) {
      const before = this.lines.length;
      await new Promise<Line>((resolve) =>
        this.#waiting.push({ matches: () => this.lines.length > before, resolve }),
      );
    }
    return all();
  }

  #add(line: Line): void {
    this.written.push(line);
    const { count, since } = line;
    for (let i = 0; i < (since === undefined ? 1 : Number(count ?? 1)); i++) this.lines.push(line);
    const heard = this.#waiting.filter(({ matches }) => matches(line));
    this.#waiting = this.#waiting.filter((each) => !heard.includes(each));
    for (const { resolve } of heard) resolve(line);
  }
}

/** A proxy that listens. It is closed, with its connections, at the end of the scope. */
export interface TestProxy extends AsyncDisposable {
  readonly proxy: Proxy;
  readonly port: number;
  readonly log: Log;
}

type Over = Omit<ProxyConfig, "listener"> & { listener?: ProxyConfig["listener"] };

/** A configuration for tests: the certificates of test/certs, generous limits, the group admin. */
export function testConfig(targets: string[], over: Over = {}): ProxyConfig {
  return {
    rateLimit: { capacity: 1_000_000, fillRate: "1ms" },
    ...over,
    upstreams: over.upstreams ?? [{ name: "test", targets, authorizedGroups: ["admin"] }],
    listener: {
      address: "127.0.0.1:0",
      ca: certPath("ca.crt"),
      certificate: certPath("server.crt"),
      privateKey: certPath("key.pem"),
      ...over.listener,
    },
  };
}

/** Starts a proxy in front of these targets. */
export async function startProxy(
  targets: string[],
  over: Over = {},
  options: ProxyOptions = {},
): Promise<TestProxy> {
  const log = new Log();
  const proxy = createProxy(testConfig(targets, over), {
    logger: log,
    refusalInterval: REFUSAL_INTERVAL,
    ...options,
  });
  const { port } = await proxy.listen();
  return {
    proxy,
    port,
    log,
    async [Symbol.asyncDispose]() {
      await proxy.close({ timeout: 0 });
    },
  };
}

/** Polls a condition until it holds, for what no event tells. */
export async function until(condition: () => boolean, what: string, ms = 10_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited ${ms} ms in vain until ${what}`);
    await Bun.sleep(5);
  }
}

/** Waits until a number has stopped changing: twenty polls in a row find the same. No event tells that nothing moves. */
export async function still(value: () => number, what: string): Promise<void> {
  let last = NaN;
  let same = 0;
  await until(() => {
    const now = value();
    same = now === last ? same + 1 : 0;
    last = now;
    return same >= 20;
  }, what);
}
