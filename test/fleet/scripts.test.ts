// What the store carries out, in a real Redis, against the same rules in TypeScript.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { hash } from "node:crypto";
import {
  BEAT,
  BLOCK,
  BLOCKS,
  DECIDE,
  LEAVE,
  PUBLISH,
  RESTORE,
  type Script,
} from "../../src/fleet/scripts.ts";
import type { Reply } from "../../src/fleet/resp.ts";
import { changeRule, takeToken } from "../../src/state/token-bucket.ts";
import { Random } from "../support/random.ts";
import { Redis, noRedis } from "../support/redis.ts";

let redis: Redis;
beforeAll(async () => {
  if (!noRedis) redis = await Redis.start();
});
afterAll(async () => {
  await redis?.[Symbol.asyncDispose]();
});

/** The same script, but by a clock that the test sets; keys then expire by that clock alone. */
function byOwnClock({ text }: Script): string {
  const own = text
    .replace("redis.call('TIME')", "{0, tonumber(redis.call('GET', 'clock')) * 1000}")
    .replaceAll(/'PX', whole\([^)]*\)/g, "'PX', 3600000")
    .replaceAll(/'PEXPIRE', (\S+), [^)]*\)\)/g, "'PEXPIRE', $1, 3600000)");
  expect(own).not.toContain("TIME");
  return own;
}

let now = 1_700_000_000_000;
async function setClock(to: number): Promise<void> {
  now = to;
  await redis.send("SET", "clock", to);
}

const LEASE = 10_000;

interface Question {
  client: string;
  node: string;
  sequence: number;
  base: number;
  asked: number;
  capacity?: number;
  fillRate?: number;
  most?: number;
  merge?: number;
}

const own = (client: string) => [`t:{${client}}:b`, `t:{${client}}:o`];

async function decide(question: Question): Promise<Reply[]> {
  const { client, node, sequence, base, asked, capacity = 0, fillRate = 1, most = 0, merge = 0 } = question;
  const numbers = [sequence, base, asked, capacity, fillRate, most, LEASE, merge].join(" ");
  const words = [node, `i${node}`, client, numbers];
  return (await redis.send("EVAL", byOwnClock(DECIDE), 2, ...own(client), ...words)) as Reply[];
}

interface Count {
  client: string;
  count: number;
  capacity?: number;
  merge?: number;
  back?: number;
}

async function publish(node: string, sequence: number, ...counts: Count[]): Promise<Reply> {
  const keys = counts.flatMap(({ client }) => own(client));
  const words = counts.flatMap(({ client, count, capacity = 0, merge = 0, back = 0 }) => [
    count,
    capacity,
    1_000,
    merge,
    back,
    client,
  ]);
  const who = [node, `i${node}`, sequence, LEASE];
  return redis.send("EVAL", byOwnClock(PUBLISH), keys.length, ...keys, ...who, ...words);
}

test.skipIf(noRedis)(
  "a decision is the token bucket's, on any schedule and when the rule changes",
  async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = new Random(seed);
      const client = `bucket${seed}`;
      let rule = { capacity: random.int(1, 6), fillRate: random.pick([1, 7, 50, 3_600_000]) };
      let fullAt = 0;
      for (let sequence = 1; sequence <= 60; sequence++) {
        await setClock(
          now + random.pick([0, 0, 1, rule.fillRate - 1, rule.fillRate, random.int(0, 4 * rule.fillRate)]),
        );
        if (random.int(1, 15) === 1) {
          const next = { capacity: random.int(1, 6), fillRate: random.pick([1, 13, 40, 60_000]) };
          fullAt = changeRule(fullAt, now, rule, next);
          rule = next;
        }
        const asked = random.int(1, 4);
        let granted = 0;
        for (let next = takeToken(fullAt, now, rule); granted < asked && next !== undefined;) {
          fullAt = next;
          granted++;
          next = takeToken(fullAt, now, rule);
        }
        const answer = await decide({ client, node: "a", sequence, base: 0, asked, ...rule });
        expect([seed, sequence, ...answer]).toEqual([
          seed,
          sequence,
          granted,
          "rate_limited",
          String(now),
          String(Math.max(0, fullAt - now)),
        ]);
      }
    }
  },
);

test.skipIf(noRedis)("a large bucket keeps every digit", async () => {
  await setClock(now);
  const rule = { capacity: 1_000_000, fillRate: 2_147_483_647 };
  let wait = 0;
  for (let sequence = 1; sequence <= 3; sequence++) {
    const asked = 300_000;
    wait += asked * rule.fillRate;
    const answer = await decide({ client: "large", node: "a", sequence, base: 0, asked, ...rule });
    expect(answer).toEqual([asked, "rate_limited", String(now), String(wait)]);
  }
});

test.skipIf(noRedis)("the cap counts all living nodes, on any schedule", async () => {
  const nodes = ["a", "b", "c"];
  for (let seed = 1; seed <= 8; seed++) {
    const random = new Random(seed);
    const client = `cap${seed}`;
    const most = random.int(1, 7);
    const open = new Map(nodes.map((node) => [node, 0]));
    const told = new Map(nodes.map((node) => [node, { count: 0, until: 0 }]));
    for (let sequence = 1; sequence <= 80; sequence++) {
      await setClock(now + random.pick([0, 1, 100, 4_000]));
      const node = random.pick(nodes);
      const has = open.get(node)!;
      if (random.int(0, 1) === 0) {
        // Some of them end, which the store hears of at once, later or with the next question.
        open.set(node, has - random.int(0, has));
        if (random.int(0, 2) === 0) continue;
        await publish(node, sequence, { client, count: open.get(node)! });
        told.set(node, { count: open.get(node)!, until: now + LEASE });
        continue;
      }
      const others = nodes.filter((each) => each !== node && told.get(each)!.until > now);
      const sum = others.reduce((all, each) => all + told.get(each)!.count, 0);
      const asked = random.int(1, 3);
      const granted = Math.min(asked, Math.max(0, most - sum - has));
      const [got, why] = await decide({ client, node, sequence, base: has, asked, most });
      expect([seed, sequence, got]).toEqual([seed, sequence, granted]);
      if (granted < asked) expect(why).toBe("connection_limit");
      open.set(node, has + granted);
      if (granted + has > 0 || told.get(node)!.until > 0)
        told.set(node, { count: has + granted, until: now + LEASE });
    }
  }
});

test.skipIf(noRedis)("a refusal by one limit takes nothing from the other", async () => {
  await setClock(now);
  const limits = { capacity: 5, fillRate: 1_000, most: 2 };
  expect(
    (await decide({ client: "r", node: "a", sequence: 1, base: 2, asked: 3, ...limits })).slice(0, 2),
  ).toEqual([0, "connection_limit"]);
  expect(await redis.send("GET", "t:{r}:b")).toBeNull();
  const tight = { capacity: 1, fillRate: 1_000, most: 9 };
  expect(
    (await decide({ client: "r", node: "a", sequence: 2, base: 0, asked: 3, ...tight })).slice(0, 2),
  ).toEqual([1, "rate_limited"]);
  expect(await redis.send("HGET", "t:{r}:o", "n:a")).toBe(`ia 2 1 ${now + LEASE}`);
});

test.skipIf(noRedis)(
  "a message that comes late changes nothing, a count of 0 and another incarnation included",
  async () => {
    await setClock(now);
    await publish("a", 10, { client: "late", count: 3 });
    expect(await decide({ client: "late", node: "a", sequence: 9, base: 0, asked: 1, capacity: 5 })).toEqual([
      "stale",
    ]);
    await publish("a", 9, { client: "late", count: 1, capacity: 5, merge: 9 });
    expect(await redis.send("HGET", "t:{late}:o", "n:a")).toBe(`ia 10 3 ${now + LEASE}`);
    await publish("a", 11, { client: "late", count: 0 });
    expect(await decide({ client: "late", node: "a", sequence: 10, base: 0, asked: 1 })).toEqual(["stale"]);
    expect(await redis.send("GET", "t:{late}:b")).toBeNull();
    // A node that was started anew under its old name begins at 1.
    await redis.send("HSET", "t:{late}:o", "n:a", `other 99 7 ${now + LEASE}`);
    expect((await decide({ client: "late", node: "a", sequence: 1, base: 0, asked: 1, most: 1 }))[0]).toBe(1);
  },
);

test.skipIf(noRedis)(
  "of two buckets the later one counts, and a token that comes back is there again",
  async () => {
    await setClock(now);
    const limits = { capacity: 5, fillRate: 1_000 };
    await decide({ client: "m", node: "a", sequence: 1, base: 0, asked: 2, ...limits });
    const bucket = () => redis.send("GET", "t:{m}:b");
    await publish("b", 1, { client: "m", count: 0, capacity: 5, merge: 1_000 });
    expect(await bucket()).toBe(`${now + 2_000} 1000`);
    await publish("b", 2, { client: "m", count: 0, capacity: 5, merge: 4_500 });
    expect(await bucket()).toBe(`${now + 4_500} 1000`);
    await publish("b", 3, { client: "m", count: 0, capacity: 5, merge: 99_000 });
    expect(await bucket()).toBe(`${now + 5_000} 1000`);
    await publish("b", 4, { client: "m", count: 0, capacity: 5, back: 2 });
    expect(await bucket()).toBe(`${now + 3_000} 1000`);
    await publish("b", 5, { client: "m", count: 0, capacity: 5, back: 9 });
    expect(await bucket()).toBeNull();
  },
);

test.skipIf(noRedis)("keys that hold something else spoil no other client's", async () => {
  await setClock(now);
  await redis.send("SET", "t:{w1}:o", "x");
  await redis.send("HSET", "t:{w2}:b", "x", "x");
  const counts = ["w1", "w2", "w3"].map((client) => ({ client, count: 1, capacity: 5, merge: 10 }));
  expect(await publish("a", 1, ...counts)).toEqual(["t:{w1}:o", "t:{w2}:b"]);
  expect(await redis.send("HGET", "t:{w3}:o", "n:a")).toBe(`ia 1 1 ${now + LEASE}`);
  await expect(decide({ client: "w1", node: "a", sequence: 2, base: 0, asked: 1 })).rejects.toThrow(
    /^WRONGTYPE/,
  );
});

test.skipIf(noRedis)(
  "a name has one living node, and a node that is silent or has left is none",
  async () => {
    await setClock(now);
    const beat = async (node: string, incarnation: string) =>
      redis.send("EVAL", byOwnClock(BEAT), 2, "t:nodes", "t:blocks", node, incarnation, LEASE) as Promise<
        string[]
      >;
    expect(await beat("a", "1")).toEqual(["new", "0", "a"]);
    expect(await beat("a", "1")).toEqual(["known", "0", "a"]);
    expect(await beat("a", "2")).toEqual(["taken", "0", "a"]);
    expect((await beat("b", "3")).sort()).toEqual(["0", "a", "b", "new"]);
    await setClock(now + LEASE - 1);
    expect((await beat("a", "2"))[0]).toBe("taken");
    await setClock(now + 1);
    expect(await beat("a", "2")).toEqual(["new", "0", "a"]);
    await redis.send("EVAL", LEAVE.text, 1, "t:nodes", "a", "1");
    expect((await beat("a", "2"))[0]).toBe("known");
    await redis.send("EVAL", LEAVE.text, 1, "t:nodes", "a", "2");
    expect(await redis.send("EXISTS", "t:nodes")).toBe(0);
  },
);

test.skipIf(noRedis)("blocks have versions that only grow, and end", async () => {
  const began = now;
  await setClock(began);
  const change = (subject: string, data: string, lasting: number, above = 0) =>
    redis.send("EVAL", byOwnClock(BLOCK), 1, "t:bl", subject, data, lasting, above);
  const all = () => redis.send("EVAL", byOwnClock(BLOCKS), 1, "t:bl");
  const versions = [
    await change("a@x", "one two", 0),
    await change("*@y", "", 500),
    await change("a@x", "three", 100, began + 7),
  ];
  expect(versions).toEqual([`${began}`, `${began + 1}`, `${began + 8}`]);
  const [version, ...rest] = (await all()) as string[];
  expect(version).toBe(`${began + 8}`);
  expect(rest).toHaveLength(8);
  expect(rest).toEqual(
    expect.arrayContaining(["a@x", `${began + 8}`, "100", "three", "*@y", `${began + 1}`, "500", ""]),
  );
  await setClock(began + 100);
  expect(await all()).toEqual([`${began + 8}`, "*@y", `${began + 1}`, "400", ""]);
  // In a store that was emptied, what comes later is later than what a node remembers.
  const restore = (subject: string, data: string, lasting: number, version: number) =>
    redis.send("EVAL", byOwnClock(RESTORE), 1, "t:bl", subject, data, lasting, version);
  await redis.send("DEL", "t:bl");
  expect(await change("a@x", "new", 0)).toBe(`${began + 100}`);
  expect(await restore("a@x", "", 500, began + 8)).toBe(`${began + 100}`);
  // Who has fetched up to the highest version so far notices that there is more.
  expect(await restore("b@x", "old", 0, began + 3)).toBe(`${began + 101}`);
  expect(await restore("b@x", "old", 0, began + 3)).toBe(`${began + 101}`);
  expect(((await all()) as string[]).slice(1)).toEqual(
    expect.arrayContaining(["a@x", `${began + 100}`, "0", "new", "b@x", `${began + 3}`, "old"]),
  );
});

test.skipIf(noRedis)("every key expires", async () => {
  // By the store's own clock, as it is.
  const words = ["a", "i", "alice@admin", `1 0 1 5 60000 3 ${LEASE} 0`];
  await redis.send(
    "EVALSHA",
    await redis.send("SCRIPT", "LOAD", DECIDE.text).then(String),
    2,
    "e:b",
    "e:o",
    ...words,
  );
  await redis.send("EVAL", BEAT.text, 2, "e:nodes", "e:blocks", "a", "i", LEASE);
  for (const [key, most] of [
    ["e:b", 60_000],
    ["e:o", LEASE],
    ["e:nodes", LEASE],
  ] as const) {
    const left = (await redis.send("PTTL", key)) as number;
    expect([key, left > most - 5_000 && left <= most]).toEqual([key, true]);
  }
  expect(DECIDE.sha).toBe(hash("sha1", DECIDE.text));
});
