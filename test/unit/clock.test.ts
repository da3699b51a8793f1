// The monotonic clock. These tests read the real time, so that they allow for a slow machine.

import { expect, test } from "bun:test";
import { monotonic } from "../../src/lib/clock.ts";

test("the monotonic clock goes forward in whole milliseconds", async () => {
  const [before, start] = [monotonic(), performance.now()];
  await Bun.sleep(60);
  const [took, real] = [monotonic() - before, performance.now() - start];
  expect(Number.isInteger(before)).toBe(true);
  expect(took).toBeGreaterThanOrEqual(58);
  expect(took).toBeLessThanOrEqual(real + 2);
});

test("the monotonic clock of a thread that starts later agrees with that of the first thread", async () => {
  await Bun.sleep(50);
  const thread = new Worker(new URL("../support/clock.ts", import.meta.url));
  const next = () =>
    new Promise<unknown>((resolve) => {
      thread.addEventListener("message", ({ data }) => resolve(data), { once: true });
    });
  const ask = (order: unknown): Promise<unknown> => {
    const answer = next();
    thread.postMessage(order);
    return answer;
  };
  await next();
  // The thread sets its clock when the message arrives, so it lags by the time that the message took.
  const told = monotonic();
  await ask(told);
  const late = monotonic() - told + 1;
  for (let i = 0; i < 20; i++) {
    const before = monotonic();
    const said = await ask("now");
    expect(said).toBeGreaterThanOrEqual(before - late);
    expect(said).toBeLessThanOrEqual(monotonic());
  }
  thread.terminate();
});

test("the monotonic clock goes on while it is read in a tight loop", () => {
  const start = performance.now();
  const first = monotonic();
  let last = first;
  for (let i = 0; i < 2_000_000; i++) {
    const now = monotonic();
    if (now < last) throw new Error("it went back");
    last = now;
  }
  expect(last - first).toBeGreaterThanOrEqual(Math.floor(performance.now() - start) - 50);
});
