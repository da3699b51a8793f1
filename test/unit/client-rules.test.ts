// Limits of groups and single clients: which rule a client has, and buckets that are kept by several rules at a time.

import { expect, test } from "bun:test";
import { ruleKeys, ruleOf, type ClientLimit, type ClientRule } from "../../src/state/client-rules.ts";
import { Ledger } from "../../src/state/ledger.ts";
import { Limits, type ClientLease } from "../../src/state/limits.ts";
import { changeRule, returnToken, takeToken, tokensLeft } from "../../src/state/token-bucket.ts";
import { small } from "../support/ledger.ts";
import { Random } from "../support/random.ts";

const hour = 3_600_000;
const everybody = { capacity: 10, fillRate: 1_000, maxConnections: undefined };

test.each<[string, ClientLimit[], string, Partial<ClientRule>, string[]]>([
  ["no rule", [], "a@x", {}, ["rateLimit", "rateLimit", "rateLimit"]],
  [
    "the group's",
    [{ match: "*@x", capacity: 3 }],
    "a@x",
    { capacity: 3 },
    ["limits[0]", "rateLimit", "rateLimit"],
  ],
  ["another group's", [{ match: "*@y", capacity: 3 }], "a@x", {}, ["rateLimit", "rateLimit", "rateLimit"]],
  ["a longer group's", [{ match: "*@xy", capacity: 3 }], "a@x", {}, ["rateLimit", "rateLimit", "rateLimit"]],
  ["another case", [{ match: "A@x", capacity: 3 }], "a@x", {}, ["rateLimit", "rateLimit", "rateLimit"]],
  [
    "the client's before the group's, in any order",
    [
      { match: "*@x", capacity: 3, fillRate: 5, maxConnections: 7 },
      { match: "a@x", capacity: 4 },
    ],
    "a@x",
    { capacity: 4, fillRate: 5, maxConnections: 7 },
    ["limits[1]", "limits[0]", "limits[0]"],
  ],
  [
    "the client's over everybody's",
    [{ match: "a@x", maxConnections: 2 }],
    "a@x",
    { maxConnections: 2 },
    ["rateLimit", "rateLimit", "limits[0]"],
  ],
  [
    "no buckets for a group",
    [{ match: "*@x", capacity: Infinity }],
    "a@x",
    { capacity: Infinity },
    ["limits[0]", "rateLimit", "rateLimit"],
  ],
])(
  "a client's limits are those of its name, its group and everybody, each number by itself: %s",
  (...row) => {
    const [, limits, client, rule, [capacity, fillRate, maxConnections]] = row;
    const rules = { rateLimit: everybody, limits };
    expect(ruleOf(rules, client)).toEqual({ ...everybody, ...rule });
    expect(ruleKeys(rules, client)).toEqual({
      capacity: `${capacity}.capacity`,
      fillRate: `${fillRate}.fillRate`,
      maxConnections: `${maxConnections}.maxConnections`,
    });
  },
);

function admitted(result: ReturnType<Limits["admit"]>): ClientLease {
  if (typeof result === "string") throw new Error(result);
  return result;
}

test("a group's limits hold for each of its members apart, over all threads", () => {
  const supervisor = small({ workers: 2 });
  const limits = [{ match: "*@etl", capacity: 2, maxConnections: 2 }];
  const [one, two] = [0, 1].map(
    (worker) => new Limits(Ledger.attach(supervisor.memory, worker), { capacity: 1, fillRate: hour }, limits),
  ) as [Limits, Limits];
  for (const client of ["a@etl", "b@etl"]) {
    for (const each of [one, two]) admitted(each.admit(client, 0));
    expect(one.admit(client, 0)).toBe("connection_limit");
  }
  admitted(two.admit("a@other", 0));
  expect(one.admit("a@other", 0)).toBe("rate_limited");
  expect([one.tokens("a@etl", 0), one.tokens("c@etl", 0), one.tokens("c@other", 0)]).toEqual([0, 2, 1]);
});

test("a rule that a reload gives to a group changes the buckets of its members only, and once", () => {
  const supervisor = small({ workers: 2 });
  const rule = { capacity: 4, fillRate: 1_000 };
  const threads = [0, 1].map((worker) => new Limits(Ledger.attach(supervisor.memory, worker), rule));
  for (const each of threads) for (const client of ["a@etl", "a@dba"]) admitted(each.admit(client, 0));
  for (const each of threads) each.setRule(rule, 0, [{ match: "*@etl", fillRate: 10 }]);
  for (const each of threads) expect([each.tokens("a@etl", 0), each.tokens("a@dba", 0)]).toEqual([2, 2]);
  for (const each of threads) expect([each.tokens("a@etl", 20), each.tokens("a@dba", 20)]).toEqual([4, 2]);
  // A thread that starts later uses the rules in force, whatever its own are.
  const late = new Limits(Ledger.attach(supervisor.memory, 0), rule);
  expect(late.tokens("a@etl", 10)).toBe(3);
});

const NAMES = ["a@x", "b@x", "c@x", "a@y", "b@y", "a@z"];
const MATCHES = ["a@x", "*@x", "b@y", "*@y", "nobody@x", "*@nobody"];

test("limits by client and group behave as one naive bucket per client over random schedules and reloads", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new Random(seed);
    const supervisor = small({ workers: 2 });
    const capacity = () => random.pick([1, 2, 3, 5, Infinity]);
    const cap = () => random.pick([undefined, undefined, 1, 2, 4]);
    const draw = () => ({
      rateLimit: { capacity: capacity(), fillRate: random.int(1, 60), maxConnections: cap() },
      limits: MATCHES.filter(() => random.int(0, 1) === 0).map((match) => ({
        match,
        capacity: random.int(0, 1) === 0 ? capacity() : undefined,
        fillRate: random.int(0, 1) === 0 ? random.int(1, 60) : undefined,
        maxConnections: cap(),
      })),
    });
    let rules = draw();
    const threads = [0, 1].map(
      (worker) => new Limits(Ledger.attach(supervisor.memory, worker), rules.rateLimit, rules.limits),
    );
    const model = new Map(NAMES.map((name) => [name, { fullAt: 0, open: 0 }]));
    const living: { name: string; lease: ClientLease }[] = [];
    let now = 0;
    for (let step = 0; step < 400; step++) {
      now += random.int(0, 10);
      const thread = random.pick(threads);
      const name = random.pick(NAMES);
      const client = model.get(name)!;
      const rule = ruleOf(rules, name);
      const action = random.int(0, 99);
      if (action < 55) {
        const fullAt = takeToken(client.fullAt, now, rule);
        const why =
          client.open >= (rule.maxConnections ?? Infinity)
            ? "connection_limit"
            : fullAt === undefined
              ? "rate_limited"
              : undefined;
        expect(thread.refusal(name, now)).toBe(why);
        const result = thread.admit(name, now);
        if (why !== undefined) expect(result).toBe(why);
        else {
          living.push({ name, lease: admitted(result) });
          client.open++;
          client.fullAt = fullAt!;
        }
      } else if (action < 85 && living.length > 0) {
        const { name, lease } = living.splice(random.int(0, living.length - 1), 1)[0]!;
        const its = model.get(name)!;
        its.open--;
        if (random.int(0, 2) === 0) {
          its.fullAt = returnToken(its.fullAt, ruleOf(rules, name));
          lease.cancel();
        }
        lease.release();
      } else if (action < 92) {
        thread.sweep(now);
        for (const each of model.values()) if (each.open === 0 && each.fullAt <= now) each.fullAt = 0;
      } else {
        const next = draw();
        for (const [name, each] of model) {
          const [before, after] = [ruleOf(rules, name), ruleOf(next, name)];
          if (before.capacity === after.capacity && before.fillRate === after.fillRate) continue;
          each.fullAt = changeRule(each.fullAt, now, before, after);
        }
        for (const each of threads) each.setRule(next.rateLimit, now, next.limits);
        rules = next;
      }
      for (const [name, { fullAt, open }] of model) {
        expect(thread.open(name)).toBe(open);
        expect(thread.tokens(name, now)).toBe(tokensLeft(fullAt, now, ruleOf(rules, name)));
      }
    }
    for (const { lease } of living) lease.release();
    threads[0]!.sweep(now + hour);
    expect(threads[0]!.size).toBe(0);
  }
});
