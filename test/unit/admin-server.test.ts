// HTTP over one connection of a door, without a socket: what waits for a reader that takes nothing.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Duplex } from "node:stream";
import type { Operations } from "../../src/admin/operations.ts";
import { RecentRefusals } from "../../src/admin/recent.ts";
import { Reply } from "../../src/admin/reply.ts";
import { Requests } from "../../src/admin/requests.ts";
import { AdminServer, type Visitor } from "../../src/admin/server.ts";
import type { Subject } from "../../src/admin/subject.ts";
import { EventHub } from "../../src/lib/events.ts";
import { Log, until } from "../support/proxy.ts";

const { stallMs } = Reply;
beforeAll(() => void (Reply.stallMs = 100));
afterAll(() => void (Reply.stallMs = stallMs));

/** One end of a connection, whose other end takes what it is given only as long as `takes` says so. */
class Reader extends Duplex {
  bytes = 0;
  text = "";
  readonly gone = new Promise<void>((resolve) => this.once("close", () => resolve()));
  readonly #takes: () => boolean;

  constructor(takes: () => boolean) {
    super();
    this.#takes = takes;
  }

  ask(path: string, more = ""): this {
    this.push(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`);
    return this;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.bytes += chunk.length;
    this.text += String(chunk);
    if (this.#takes()) setImmediate(done);
  }

  setTimeout = () => this;
  setNoDelay = () => this;
  setKeepAlive = () => this;
}

const LINE = `${JSON.stringify({ id: "x".repeat(1_000) })}\n`;

function start(over: Partial<Subject> = {}, visitor: () => Visitor | undefined = operator) {
  const state = { batches: 0 };
  const log = new Log();
  const events = new EventHub();
  const subject = {
    log,
    events,
    ledger: { memory: { shape: { workers: 1 } } },
    runner: {
      // There is always more.
      askThread: async () => ({ lines: LINE.repeat(500), next: ++state.batches }),
    },
    ...over,
  } as unknown as Subject;
  const requests = new Requests();
  const server = new AdminServer(
    { subject, recent: new RecentRefusals(), operations: {} as Operations, requests },
    { scheme: "http", isHost: () => true, visitor },
  );
  return { server, state, log, events, requests };
}
const operator = (): Visitor => ({ actor: "uid 0", right: "operate" });

test("a reader of connections that takes nothing is dropped, and no more is asked for meanwhile", async () => {
  const { server, state, log } = start();
  const reader = new Reader(() => false).ask("/v1/connections");
  server.take(reader);
  await reader.gone;
  expect(state.batches).toBeLessThanOrEqual(2);
  expect(log.lines).toEqual([]);
});

test("a reader of connections that stops in the middle is dropped", async () => {
  const { server, state } = start();
  const reader: Reader = new Reader(() => reader.bytes < 5_000_000).ask("/v1/connections");
  server.take(reader);
  await reader.gone;
  expect(reader.bytes).toBeGreaterThan(5_000_000);
  expect(state.batches).toBeLessThan(15);
});

test("a reader of events that takes nothing is dropped", async () => {
  const { server, events } = start();
  const reader: Reader = new Reader(() => reader.bytes < 1_000).ask("/v1/events");
  server.take(reader);
  await until(() => reader.bytes > 0, "the answer begins");
  const detail = "x".repeat(1_000);
  for (let i = 0; i < 1_000; i++) events.publish({ at: 0, level: "info", msg: "closed", fields: { detail } });
  await reader.gone;
});

test("a reader of events that is slow is told how many it has missed", async () => {
  const { server, events } = start();
  let takes = true;
  let done: (() => void) | undefined;
  const reader = new Reader(() => true);
  reader._write = (chunk: Buffer, _: string, taken: () => void) => {
    reader.text += String(chunk);
    if (takes) setImmediate(taken);
    else done = taken;
  };
  server.take(reader.ask("/v1/events"));
  await until(() => reader.text.includes(":\n\n"), "the answer begins");
  takes = false;
  for (let i = 0; i < 2_000; i++) {
    events.publish({ at: 0, level: "info", msg: "closed", fields: { i, detail: "x".repeat(1_000) } });
  }
  await until(() => done !== undefined, "the reader is full");
  takes = true;
  done?.();
  await until(() => reader.text.includes("event: dropped"), "the reader is told");
  const seen = reader.text.match(/event: log/g)?.length ?? 0;
  const missed = Number(/event: dropped\ndata: \{"count":(\d+)\}/.exec(reader.text)?.[1]);
  expect(seen + missed).toBe(2_000);
  // Some 256 KiB were kept, and what had been written.
  expect(seen).toBeLessThan(400);
  reader.destroy();
});

test("a second request that does not wait for the first one's answer ends the connection", async () => {
  const { server, state } = start();
  const reader = new Reader(() => false).ask("/v1/connections").ask("/v1/connections");
  server.take(reader);
  await reader.gone;
  expect(state.batches).toBeLessThanOrEqual(1);
});

test("a thread that fails over a question ends the answer in the middle", async () => {
  const { server, log } = start({
    runner: { askThread: () => Promise.reject(new Error("gone")) } as unknown as Subject["runner"],
  });
  const reader = new Reader(() => true).ask("/v1/connections");
  server.take(reader);
  await reader.gone;
  // The last chunk, which says that it is whole, is missing.
  expect(reader.text).not.toContain("\r\n0\r\n\r\n");
  expect(log.lines).toEqual([]);
});

test("a handler that throws is answered with an error that says nothing, and is in the log", async () => {
  const { server, log, requests } = start({ pools: undefined as unknown as Subject["pools"] });
  const reader = new Reader(() => true).ask("/v1/targets", "Connection: close\r\n");
  server.take(reader);
  await until(() => reader.text.includes("}\n"), "there is an answer");
  expect(reader.text).toStartWith("HTTP/1.1 500 ");
  expect(reader.text).toEndWith('{"error":"internal error"}\n');
  expect(await log.line("internal error")).toBeDefined();
  expect(requests.all()).toEqual([{ action: "targets", result: "failed", count: 1 }]);
  reader.destroy();
});

test("a visitor whose right is gone gets no answer", async () => {
  const { server, requests } = start({}, () => undefined);
  const reader = new Reader(() => true).ask("/v1/status");
  server.take(reader);
  await reader.gone;
  expect(reader.text).toBe("");
  expect(requests.all()).toEqual([]);
});

test("requests are counted by what they ask for", async () => {
  const { server, requests } = start({ pools: new Map() });
  for (const [path, answer] of [
    ["/v1/targets", "200"],
    ["/v1/<script>", "404"],
    ["/v1/targets?x=y", "400"],
  ] as const) {
    const reader = new Reader(() => true).ask(path, "Connection: close\r\n");
    server.take(reader);
    await until(() => reader.text.includes("}\n"), "there is an answer");
    expect(reader.text).toStartWith(`HTTP/1.1 ${answer} `);
    reader.destroy();
  }
  expect(requests.all()).toEqual([
    { action: "targets", result: "ok", count: 1 },
    { action: "targets", result: "refused", count: 1 },
    { action: "unknown", result: "refused", count: 1 },
  ]);
});
