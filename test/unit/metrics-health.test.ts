// What health checks are told, which clients are the busiest, how often a reading is made, and what a request is.

import { expect, test } from "bun:test";
import { HANGS_AFTER_MS, liveness, readiness } from "../../src/admin/health.ts";
import { parseHead } from "../../src/admin/http.ts";
import { Paced } from "../../src/admin/paced.ts";
import { TopClients, busiest } from "../../src/admin/top-clients.ts";
import { Ledger } from "../../src/state/ledger.ts";

test("a proxy lives while no thread has been silent for too long; one that has not begun or has ended is not waited for", () => {
  const { memory } = Ledger.make({ workers: 3, targets: 1, clients: 1 });
  const [a, b] = [0, 1].map((worker) => Ledger.attach(memory, worker).counters);
  const at = (now: number) => liveness(a!, [1, 2, 3], now);
  a!.beat(10_000, 0);
  b!.beat(11_000, 0);
  expect(at(10_000 + HANGS_AFTER_MS - 1)).toMatchObject({ healthy: true });
  expect(at(10_000 + HANGS_AFTER_MS)).toEqual({
    healthy: false,
    lines: ["worker 0 has not answered for 5 s", "worker 1 runs", "worker 2 runs"],
  });
  a!.rest();
  expect(at(10_000 + HANGS_AFTER_MS)).toMatchObject({ healthy: true });
  b!.rest(2);
  expect(at(60_000)).toMatchObject({ healthy: true });
});

const pools = new Map([
  ["well", { balancer: { healthy: true } }],
  ["ill", { balancer: { healthy: false } }],
]) as unknown as Parameters<typeof readiness>[1];

test.each([
  ["starting", undefined, false],
  ["running", undefined, true],
  ["running", "well", true],
  ["running", "ill", false],
  ["draining", undefined, false],
  ["draining", "well", false],
] as const)("a proxy that is %s, asked about the upstream %p: ready is %p", (phase, asked, healthy) => {
  expect(readiness(phase, pools, asked)).toEqual({
    healthy,
    lines: [`proxy is ${phase}`, "upstream well has a healthy target", "upstream ill has no healthy target"],
  });
});

test("the busiest clients are added up over threads, and come in order", () => {
  const uses = [
    { client: "a@x", open: 1 },
    { client: "b@x", open: 2 },
    { client: "a@x", open: 2 },
    { client: "d@x", open: 2 },
    { client: "c@x", open: 2 },
  ];
  expect(busiest(uses, 3)).toEqual([
    ["a@x", 3],
    ["b@x", 2],
    ["c@x", 2],
  ]);
  expect(busiest([], 3)).toEqual([]);
});

test("a thread that does not answer is asked once, and nobody waits for it", async () => {
  let asked = 0;
  const silent = { runner: { ask: () => (asked++, new Promise(() => {})) } };
  const clients = new TopClients(silent as unknown as ConstructorParameters<typeof TopClients>[0]);
  expect(await clients.read(0)).toEqual([]);
  expect(asked).toBe(0);
  expect(await clients.read(3)).toEqual([]);
  expect(await clients.read(3)).toEqual([]);
  expect(asked).toBe(1);
});

test("paced work is done after each question, and shared by those that come while it rests or is being done", async () => {
  let done = 0;
  let free = Promise.withResolvers<void>();
  const paced = new Paced(async () => {
    await free.promise;
    return ++done;
  });
  const first = paced.next();
  await Promise.resolve();
  await Promise.resolve();
  const later = [paced.next(), paced.next()];
  free.resolve();
  expect(await first).toBe(1);
  expect(await Promise.all([...later, paced.next()])).toEqual([2, 2, 2]);
});

test("paced work that fails fails for those who asked, and is done again for others", async () => {
  let calls = 0;
  const paced = new Paced(async () => {
    if (++calls === 1) throw new Error("gone wrong");
    return calls;
  });
  await expect(paced.next()).rejects.toThrow("gone wrong");
  expect(await paced.next()).toBe(2);
});

test.each([
  ["GET /metrics HTTP/1.1\r\nHost: a", { method: "GET", target: "/metrics", accept: "", last: false }],
  ["GET / HTTP/1.0", { method: "GET", target: "/", accept: "", last: true }],
  [
    "HEAD /livez?verbose HTTP/1.1\r\naccept: text/plain\r\nX: accept: y\r\nACCEPT:  */* ",
    { method: "HEAD", target: "/livez?verbose", accept: "text/plain,*/*", last: false },
  ],
  ["GET / HTTP/1.1\r\nConnection: x, Close", { method: "GET", target: "/", accept: "", last: true }],
  ["GET / HTTP/1.1\r\nContent-Length: 1", { method: "GET", target: "/", accept: "", last: true }],
  ["POST / HTTP/1.1", { method: "POST", target: "/", accept: "", last: true }],
  ["", undefined],
  ["GET /metrics", undefined],
  ["GET /metrics HTTP/2.0", undefined],
  ["get /metrics HTTP/1.1", undefined],
  ["GET  /metrics HTTP/1.1", undefined],
  ["GET /a b HTTP/1.1", undefined],
  ["GET /\u00ff HTTP/1.1", undefined],
  [`${"A".repeat(30)} / HTTP/1.1`, undefined],
  ["GET / HTTP/1.1\r\nHost", undefined],
  ["GET / HTTP/1.1\r\n folded: x", undefined],
  ["GET / HTTP/1.1\r\nA : x", undefined],
  ["GET / HTTP/1.1\r\nA: x\ny", undefined],
  ["GET / HTTP/1.1\r\nA: x\0", undefined],
])("the head of a request %j is read as %j", (head, request) => {
  expect(parseHead(head)).toEqual(request as never);
});
