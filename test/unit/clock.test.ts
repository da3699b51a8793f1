import { expect, test } from "bun:test";
import { monotonic } from "../../src/lib/clock.ts";

test("goes forward, a millisecond at a time", async () => {
  const [before, start] = [monotonic(), performance.now()];
  await Bun.sleep(60);
  const [took, real] = [monotonic() - before, performance.now() - start];
  expect(Number.isInteger(before)).toBe(true);
  expect(took).toBeGreaterThanOrEqual(58);
  expect(took).toBeLessThanOrEqual(real + 2);
});

test("of a thread that begins later is that of the first, but for the moment it took to tell", async () => {
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

test("goes on while it is asked all the time", () => {
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
