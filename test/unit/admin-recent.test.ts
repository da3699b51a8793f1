// What the admin remembers and counts.

import { expect, test } from "bun:test";
import { RecentRefusals } from "../../src/admin/recent.ts";
import { Requests } from "../../src/admin/requests.ts";
import { EventHub } from "../../src/lib/events.ts";

const refused = (id: string) => ({ at: 0, level: "warn" as const, msg: "refused", fields: { id } });

test("the latest refusals are found by their ids, and the oldest are forgotten first", () => {
  const recent = new RecentRefusals(100);
  for (let i = 0; i < 1_000; i++) recent.add(refused(`a-${i}`));
  expect(recent.size).toBe(100);
  expect(recent.find("a-899")).toBeUndefined();
  expect(recent.find("a-900")).toEqual(refused("a-900"));
  expect(recent.find("a-999")).toEqual(refused("a-999"));
});

test("a refusal whose line comes again is as good as new", () => {
  const recent = new RecentRefusals(2);
  for (const id of ["a", "b", "a", "c"]) recent.add(refused(id));
  expect(recent.find("a")).toBeDefined();
  expect(recent.find("b")).toBeUndefined();
});

test("other lines, and refusals without an id, are not kept", () => {
  const recent = new RecentRefusals();
  const events = new EventHub();
  const stop = recent.listen(events);
  events.publish({ ...refused("a"), msg: "closed" });
  events.publish({ ...refused("b"), fields: { remote: "various" } });
  events.publish(refused("c"));
  stop();
  events.publish(refused("d"));
  expect(recent.size).toBe(1);
  expect(recent.find("c")).toBeDefined();
});

test("requests are counted by action and result", () => {
  const requests = new Requests();
  requests.count("status", "ok");
  requests.count("status", "ok");
  requests.count("reload", "refused");
  expect(requests.read()).toEqual([
    { action: "status", result: "ok", count: 2 },
    { action: "reload", result: "refused", count: 1 },
  ]);
});
