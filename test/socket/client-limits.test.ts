// Limits of groups and clients, and caps on upstreams and targets, seen from outside, with one thread and with several.

import { describe, expect, test } from "bun:test";
import { connect, echoOrigin, type Peer } from "../support/peer.ts";
import { startProxy, testConfig, type TestProxy } from "../support/proxy.ts";
import { crowd, echoes, open, reasons, served } from "../support/served.ts";
import { startWorkerPool } from "../support/worker-pool.ts";

const UNLIMITED = { capacity: "unlimited" } as const;

/** Connects clients at the same time. Returns those that are served. */
async function among(count: number, { port }: TestProxy, name = "alice"): Promise<Peer[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => served(port, name)));
  return clients.filter((client) => client !== undefined);
}

const details = ({ log }: TestProxy) =>
  new Set(
    log.lines.filter(({ msg }) => msg === "refused").map(({ reason, detail }) => `${reason}: ${detail}`),
  );

describe.each([1, 2])("with %i workers", (workers) => {
  test("a client's own limit comes before its group's, and that before everybody's", async () => {
    using origin = echoOrigin();
    await using proxy = await startProxy([], {
      workers,
      upstreams: [{ name: "both", targets: [origin.target], authorizedGroups: ["admin", "ops"] }],
      rateLimit: { ...UNLIMITED, maxConnections: 2 },
      limits: [
        { match: "*@admin", maxConnections: 4 },
        { match: "bob@admin", maxConnections: 6 },
      ],
    });
    expect(await among(12, proxy)).toHaveLength(4);
    expect(await among(12, proxy, "bob")).toHaveLength(6);
    expect(await among(12, proxy, "alice-ops")).toHaveLength(2);
    await proxy.log.count("refused", 8 + 6 + 10);
    expect(new Set(reasons(proxy.log))).toEqual(new Set(["connection_limit"]));
  });

  test("a reload changes the limits of a group, and its buckets keep what is missing", async () => {
    using origin = echoOrigin();
    const over = (capacity: number) => ({
      workers,
      rateLimit: UNLIMITED,
      limits: [{ match: "*@admin", capacity, fillRate: "1h" }],
    });
    await using proxy = await startProxy([origin.target], over(3));
    expect(await among(10, proxy)).toHaveLength(3);
    await proxy.proxy.reload(testConfig([origin.target], over(5)));
    expect(await among(10, proxy)).toHaveLength(2);
    expect(await among(10, proxy, "bob")).toHaveLength(5);
    await proxy.proxy.reload(testConfig([origin.target], { workers, rateLimit: UNLIMITED }));
    expect(await among(10, proxy)).toHaveLength(10);
  });

  test("an upstream at its cap refuses with its name, gives the token back, and has a place again at once", async () => {
    using one = echoOrigin();
    using two = echoOrigin();
    const over = (maxConnections: number | undefined) => ({
      workers,
      upstreams: [
        {
          name: "orders",
          targets: [one.target, two.target],
          authorizedGroups: ["admin"],
          ...(maxConnections && { maxConnections }),
        },
      ],
      rateLimit: { capacity: 8, fillRate: "1h" },
    });
    await using proxy = await startProxy([], over(5));
    const clients = await among(8, proxy);
    expect(clients).toHaveLength(5);
    await proxy.log.count("refused", 3);
    expect(details(proxy)).toEqual(new Set(["connection_limit: upstream orders: 5"]));
    expect(open(proxy)).toContain(3);
    clients[0]!.close();
    await proxy.log.count("closed", 1);
    // Three tokens came back: one serves the free place.
    expect(await among(3, proxy)).toHaveLength(1);
    await proxy.log.count("refused", 5);
    await proxy.proxy.reload(testConfig([], over(undefined)));
    expect(await among(4, proxy)).toHaveLength(2);
    await proxy.log.count("refused", 7);
    expect(reasons(proxy.log).slice(-2)).toEqual(["rate_limited", "rate_limited"]);
  });

  test("a target at its cap is passed over, and with all at theirs the refusal says so", async () => {
    using one = echoOrigin();
    using two = echoOrigin();
    await using proxy = await startProxy([], {
      workers,
      upstreams: [
        {
          name: "test",
          targets: [
            { address: one.target, maxConnections: 1 },
            { address: two.target, maxConnections: 4 },
          ],
          authorizedGroups: ["admin"],
        },
      ],
      rateLimit: UNLIMITED,
    });
    expect(await among(9, proxy)).toHaveLength(5);
    expect(open(proxy)).toEqual([1, 4]);
    await proxy.log.count("refused", 4);
    expect(details(proxy)).toEqual(new Set(["no_target: every target that is left has its maxConnections"]));
  });
});

test("an upstream has the places back that a dead thread's connections had", async () => {
  using origin = echoOrigin();
  await using pool = await startWorkerPool([], {
    workers: 2,
    upstreams: [{ name: "test", targets: [origin.target], authorizedGroups: ["admin"], maxConnections: 4 }],
    rateLimit: UNLIMITED,
  });
  const clients = await crowd(pool.port, 4);
  expect(await served(pool.port)).toBeUndefined();
  for (const worker of [0, 1]) pool.kill(worker);
  await Promise.all(clients.map(({ ended }) => ended));
  await pool.log.count("worker replaced", 2);
  await crowd(pool.port, 4);
  expect(await served(pool.port)).toBeUndefined();
});

test("connections to a target that a reload has removed count for the cap of the upstream", async () => {
  using one = echoOrigin();
  using two = echoOrigin();
  const over = (target: string) => ({
    upstreams: [{ name: "test", targets: [target], authorizedGroups: ["admin"], maxConnections: 2 }],
    rateLimit: UNLIMITED,
  });
  await using proxy = await startProxy([], over(one.target));
  const clients = await among(2, proxy);
  await proxy.proxy.reload(testConfig([], over(two.target)));
  expect(await among(1, proxy)).toHaveLength(0);
  clients[0]!.close();
  await proxy.log.count("closed", 1);
  const next = await connect(proxy.port);
  expect(await echoes(next)).toBe(true);
  expect(two.accepted).toHaveLength(1);
});
