// Kicks, blocks and draining targets, in force in several worker threads while clients come and go.

import { expect, test } from "bun:test";
import { parseSubject, type Block } from "../../src/auth/blocks.ts";
import { Balancer } from "../../src/state/balancer.ts";
import { Blackhole } from "../support/blackhole.ts";
import { connect, echoOrigin, type Peer } from "../support/peer.ts";
import { until } from "../support/proxy.ts";
import { crowd, echoes, messages } from "../support/served.ts";
import { startWorkerPool, type TestWorkerPool } from "../support/worker-pool.ts";

function block(text: string, until?: number): Block {
  return { ...parseSubject(text)!, reason: "test", actor: "uid 0", since: Date.now(), until };
}

const groups = { authorizedGroups: ["admin", "ops"] };
const isOpen = ({ ledger }: TestWorkerPool) => ledger.connections();

async function blockIn(pool: TestWorkerPool, ...blocks: Block[]): Promise<number> {
  const answers = await pool.crew.ask({ about: "block", blocks });
  return answers.reduce((sum, { closed }) => sum + closed, 0);
}

test("a block closes what is open in every worker, and what others hold stays", async () => {
  using origin = echoOrigin();
  const upstreams = [{ name: "test", targets: [origin.target], ...groups }];
  await using pool = await startWorkerPool([], { workers: 4, upstreams });
  const alice = await crowd(pool.port, 24);
  const bob = await connect(pool.port, { name: "bob" });
  expect(await echoes(bob)).toBe(true);
  expect(await blockIn(pool, block("alice@admin"))).toBe(24);
  expect(isOpen(pool)).toBe(1);
  await Promise.all(alice.map(({ ended }) => ended));
  expect(await echoes(bob)).toBe(true);
  expect(messages(pool.log, "closed").map(({ reason, detail }) => [reason, detail])).toEqual(
    Array(24).fill(["blocked", "alice@admin: test"]),
  );
  await connect(pool.port);
  expect(await pool.log.line("refused", "blocked")).toMatchObject({ client: "alice@admin" });
  expect(await blockIn(pool)).toBe(0);
  expect(await echoes(await connect(pool.port))).toBe(true);
});

test("a block has no gap: nobody blocked is open or gets in once it has been answered", async () => {
  using origin = echoOrigin();
  await using hole = await Blackhole.open();
  const upstreams = [
    { name: "test", targets: [origin.target], serverNames: ["localhost"], ...groups },
    { name: "slow", targets: [hole.target], ...groups },
  ];
  await using pool = await startWorkerPool([], { workers: 4, upstreams });
  const bob = await connect(pool.port, { name: "bob" });
  expect(await echoes(bob)).toBe(true);
  let blocked = false;
  let served = 0;
  const late: string[] = [];
  const peers: Peer[] = [];
  // Dials that get no answer, beside handshakes that go on all the time.
  const dialing = Array.from({ length: 8 }, () => connect(pool.port, { serverName: "slow" }));
  const attempts: Promise<unknown>[] = [];
  const attempt = async () => {
    const after = blocked;
    const peer = await connect(pool.port);
    peers.push(peer);
    if (!(await echoes(peer))) return;
    served++;
    if (after) late.push("got in");
    await peer.ended;
  };
  const timer = setInterval(() => attempts.push(attempt()), 5);
  using _ = { [Symbol.dispose]: () => clearInterval(timer) };
  await Promise.all(dialing);
  await until(() => served >= 20, "some are served");
  await blockIn(pool, block("alice@admin"));
  // Handshakes that go on may be there; what is admitted is bob's alone.
  const lines = (await pool.crew.ask({ about: "connections", filter: {}, after: 0, limit: 1_000 })).map(
    (answer) => answer.lines,
  );
  expect(lines.join("").match(/"client":"[^"]*"/g)).toEqual(['"client":"bob@admin"']);
  blocked = true;
  const tried = attempts.length;
  await until(() => attempts.length >= tried + 40, "more have tried");
  clearInterval(timer);
  for (const peer of peers) peer.close();
  await Promise.all(attempts);
  expect(late).toEqual([]);
  expect(await echoes(bob)).toBe(true);
});

test("a block that a reload brings along closes as a block does, at once", async () => {
  using origin = echoOrigin();
  const upstreams = [{ name: "test", targets: [origin.target], ...groups }];
  await using pool = await startWorkerPool([], { upstreams, revocationGrace: "1h" });
  const alice = await connect(pool.port);
  expect(await echoes(alice)).toBe(true);
  await pool.crew.apply({ ...pool.snapshot, blocks: [block("alice@admin")] });
  await alice.ended;
  expect(await pool.log.line("closed")).toMatchObject({ reason: "blocked", detail: "alice@admin: test" });
});

test("a worker that takes the place of a dead one knows of blocks", async () => {
  using origin = echoOrigin();
  await using pool = await startWorkerPool([origin.target]);
  await blockIn(pool, block("*@admin"));
  pool.kill(0);
  pool.kill(1);
  await pool.log.count("worker replaced", 2);
  for (let i = 0; i < 8; i++) {
    const client = await connect(pool.port);
    await client.ended;
  }
  await pool.log.count("refused", 8);
  expect(messages(pool.log, "refused").every(({ reason }) => reason === "blocked")).toBe(true);
});

test("a blocked network is refused before TLS", async () => {
  using origin = echoOrigin();
  await using pool = await startWorkerPool([origin.target]);
  const client = await connect(pool.port);
  expect(await echoes(client)).toBe(true);
  expect(await blockIn(pool, block("127.0.0.0/30"))).toBe(1);
  await expect(connect(pool.port).then(echoes)).resolves.toBe(false);
  expect(await pool.log.line("refused", "blocked")).not.toHaveProperty("serverName", "localhost");
});

test("a kick ends the connections that match, and takes no right away", async () => {
  using origin = echoOrigin();
  await using pool = await startWorkerPool([origin.target]);
  const clients = await crowd(pool.port, 10);
  const kick = async (over: { ids?: string[]; dryRun?: boolean; grace?: number; client?: string }) => {
    const { ids, dryRun = false, grace = 0, client = "alice@admin" } = over;
    const answers = await pool.crew.ask({
      about: "kick",
      filter: { client },
      ids,
      grace,
      why: "rest",
      dryRun,
    });
    return answers.flatMap((answer) => answer.ids);
  };
  const all = await kick({ dryRun: true });
  expect(new Set(all).size).toBe(10);
  expect(isOpen(pool)).toBe(10);
  expect(await kick({ client: "bob@admin" })).toEqual([]);
  const [first] = all;
  expect(await kick({ ids: [first!] })).toEqual([first!]);
  expect(isOpen(pool)).toBe(9);
  expect(await pool.log.line("closed", "kicked")).toMatchObject({
    id: first!,
    detail: "rest",
    endedBy: "proxy",
  });
  expect((await kick({ grace: 50 })).length).toBe(9);
  await until(() => isOpen(pool) === 0, "the grace is over");
  await Promise.all(clients.map(({ ended }) => ended));
  expect(await echoes(await connect(pool.port))).toBe(true);
});

test("a target that drains gets no new connection in any worker, and its weight can be changed", async () => {
  using first = echoOrigin();
  using second = echoOrigin();
  await using pool = await startWorkerPool([first.target, second.target]);
  const slots = [0, 1].map((slot) => ({ slot, weight: 1, backup: false }));
  const balancer = new Balancer(pool.ledger, slots, { fall: 3, slowStart: 0 });
  const open = () => slots.map(({ slot }) => pool.ledger.targets.open.total[slot]!);
  balancer.setOverride(0, true, undefined);
  await crowd(pool.port, 8);
  expect(open()).toEqual([0, 8]);
  balancer.setOverride(1, true, undefined);
  await connect(pool.port);
  await pool.log.line("refused", "no_target");
  balancer.setOverride(0, false, undefined);
  balancer.setOverride(1, false, 3);
  await crowd(pool.port, 8);
  expect(open()).toEqual([4, 12]);
});
