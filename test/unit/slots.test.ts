// Which slot of the ledger a target has, over reloads.

import { expect, test } from "bun:test";
import { Balancer, type HealthRule } from "../../src/state/balancer.ts";
import { Slots } from "../../src/state/slots.ts";
import { small } from "../support/ledger.ts";
import { Random } from "../support/random.ts";

const health: HealthRule = { fall: 1, slowStart: 0 };

test("each target has a slot of its own, and a repeated key shares one slot", () => {
  const slots = new Slots(small()).assign(["a", "b", "a", "c"])!;
  expect([...slots]).toEqual([
    ["a", 0],
    ["b", 1],
    ["c", 2],
  ]);
});

test("a target that stays keeps its slot and its health", () => {
  const ledger = small();
  const slots = new Slots(ledger);
  const before = slots.assign(["a", "b"])!;
  const slot = before.get("b")!;
  const balancer = new Balancer(ledger, [{ slot, weight: 1, backup: false }], health);
  balancer.pick(0)!.failed(0);
  expect(slots.assign(["c", "b"])!.get("b")).toBe(slot);
  expect(balancer.health(slot, 0)).toBe("ejected");
});

test("the slot of a removed target is kept until the target's connections are over", () => {
  const ledger = small({ targets: 2 });
  const slots = new Slots(ledger);
  const slot = slots.assign(["a"])!.get("a")!;
  const balancer = new Balancer(ledger, [{ slot, weight: 1, backup: false }], health);
  const lease = balancer.pick(0)!;
  balancer.mark(slot, false, 0);
  expect([...slots.assign(["b"])!.values()]).not.toContain(slot);
  expect(slots.assign(["b", "c"])).toBeUndefined();
  expect(slots.assign(["b", "a"])!.get("a")).toBe(slot);
  expect(balancer.health(slot, 0)).toBe("down");
  slots.assign(["b"]);
  lease.release();
  expect(slots.assign(["b", "c"])!.get("c")).toBe(slot);
  expect(balancer.health(slot, 0)).toBe("up");
});

test("a slot that has just become free is used last", () => {
  const slots = new Slots(small({ targets: 3 }));
  const gone = slots.assign(["a"])!.get("a")!;
  expect([...slots.assign(["b", "c"])!.values()]).not.toContain(gone);
  expect(slots.assign(["b", "c", "d"])!.get("d")).toBe(gone);
});

test("slots for too many targets are refused, and nothing changes", () => {
  const slots = new Slots(small({ targets: 2 }));
  const before = slots.assign(["a", "b"])!;
  expect(slots.assign(["c", "d", "e"])).toBeUndefined();
  expect(slots.assign(["a", "b"])).toEqual(before);
  expect([...slots.assign(["c", "d"])!.values()].sort()).toEqual([0, 1]);
});

test("the slots of living targets are never shared over random configurations", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new Random(seed);
    const ledger = small({ targets: 6 });
    const slots = new Slots(ledger);
    /** By key, the connections open and the slot they are counted in. */
    const busy = new Map<string, { slot: number; open: number }>();
    for (let step = 0; step < 200; step++) {
      const keys = Array.from({ length: random.int(1, 5) }, () => random.pick([..."abcdefgh"]));
      const assigned = slots.assign(keys);
      const living = new Set([...keys, ...busy.keys()]);
      expect(assigned !== undefined).toBe(living.size <= 6);
      for (const [key, slot] of assigned ?? []) {
        for (const [other, { slot: taken }] of busy) expect(slot === taken).toBe(key === other);
        if (random.int(0, 3) > 0) continue;
        ledger.targets.open.add(slot, 1);
        busy.set(key, { slot, open: (busy.get(key)?.open ?? 0) + 1 });
      }
      for (const [key, { slot, open }] of busy) {
        if (random.int(0, 2) > 0) continue;
        ledger.targets.open.add(slot, -open);
        busy.delete(key);
      }
    }
  }
});
