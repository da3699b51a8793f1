import { expect, test } from "bun:test";
import { monotonic } from "../../src/clock.ts";

test("goes forward, a millisecond at a time", async () => {
  const [before, start] = [monotonic(), performance.now()];
  await Bun.sleep(60);
  const [took, real] = [monotonic() - before, performance.now() - start];
  expect(Number.isInteger(before)).toBe(true);
  expect(took).toBeGreaterThanOrEqual(58);
  expect(took).toBeLessThanOrEqual(real + 2);
});

test("is the same for a thread that begins later", async () => {
  const thread = new Worker(new URL("../support/clock.ts", import.meta.url));
  for (let i = 0; i < 20; i++) {
    const before = monotonic();
    const said = await new Promise<number>((resolve) => {
      thread.addEventListener("message", ({ data }) => resolve(data as number), { once: true });
      thread.postMessage("now");
    });
    expect(said).toBeGreaterThanOrEqual(before);
    expect(said).toBeLessThanOrEqual(monotonic());
  }
  thread.terminate();
});
