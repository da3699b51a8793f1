// How many descriptors a proxy needs, and how many connections they leave room for.

import { expect, test } from "bun:test";
import { DescriptorBudget, descriptorShortage, heldBy, mostConnections } from "../../src/lib/descriptors.ts";

test.each([
  [{ workers: 1, listeners: 1, checks: 0 }, 1],
  [{ workers: 1, listeners: 3, checks: 5 }, 8],
  [{ workers: 2, listeners: 1, checks: 0 }, 7],
  [{ workers: 64, listeners: 1, checks: 0 }, 193],
  [{ workers: 4, listeners: 2, checks: 10 }, 28],
])("a proxy with %j holds %i descriptors beside its connections", (holding, held) => {
  expect(heldBy(holding)).toBe(held);
});

test("the descriptor budget counts what proxies hold beyond the reserve, over all proxies, until they give it back", () => {
  const budget = new DescriptorBudget(100);
  budget.hold(10);
  expect(budget.used).toBe(0);
  budget.hold(10);
  expect(budget.used).toBe(4);
  budget.hold(100);
  expect(budget.used).toBe(104);
  expect(budget.take(1)).toBe(false);
  budget.hold(-100);
  budget.hold(-10);
  budget.hold(-10);
  expect(budget.used).toBe(0);
  expect(budget.take(100)).toBe(true);
});

test("the connection limit is lowered by many health checks, until descriptors run short", () => {
  const holding = (checks: number) => ({ workers: 1, listeners: 1, checks });
  const most = mostConnections(holding(0));
  expect(mostConnections(holding(15))).toBe(most);
  expect(mostConnections(holding(35))).toBe(most - 10);
  expect(descriptorShortage(holding(2 * most))).toBeUndefined();
  expect(descriptorShortage(holding(3 * most))).toContain(`health checks: ${3 * most})`);
});
