// The hourly repetition of a refused reload.

import { afterEach, beforeEach, expect, jest, setSystemTime, test } from "bun:test";
import { createProxy } from "tcpproxy";
import { Reminder, type StillRefused } from "../../src/config/reminder.ts";
import { Log, testConfig } from "../support/proxy.ts";

const HOUR = 3_600_000;
beforeEach(() => void jest.useFakeTimers());
afterEach(() => {
  jest.useRealTimers();
  setSystemTime();
});

test("the reminder repeats a refusal every hour, with the first refusal's time and the last one's faults, until stopped", () => {
  const said: StillRefused[] = [];
  const reminder = new Reminder((what) => said.push(what));
  const start = Date.now();
  reminder.refused([{ key: "a", problem: "x" }]);
  jest.advanceTimersByTime(HOUR / 2);
  reminder.refused([
    { key: "b", problem: "y" },
    { key: "c", problem: "z" },
  ]);
  jest.advanceTimersByTime(HOUR - 1);
  expect(said).toEqual([]);
  jest.advanceTimersByTime(HOUR + 1);
  const since = new Date(start).toISOString();
  const again = { since, key: "b", problem: "y", faults: 2 };
  expect(said).toEqual([again, again]);
  reminder.stop();
  jest.advanceTimersByTime(5 * HOUR);
  expect(said).toHaveLength(2);
});

test("the reminder repeats refused files until a reload succeeds, and not configurations that a caller passed", async () => {
  const log = new Log();
  const good = testConfig(["127.0.0.1:1"]);
  let source = good;
  const proxy = createProxy(good, { logger: log, source: () => source });
  const hour = () => {
    log.lines.length = 0;
    jest.advanceTimersByTime(HOUR);
    return log.lines.filter(({ msg }) => msg === "reload refused");
  };
  // The caller passed this configuration and has the error, so the log does not repeat it.
  await expect(proxy.reload({ ...good, timeout: "soon" })).rejects.toThrow();
  expect(hour()).toEqual([]);
  source = { ...good, timeout: "soon", watch: 5 as never };
  await expect(proxy.reload()).rejects.toThrow();
  const line = { level: "error", key: "timeout", problem: expect.stringContaining("soon"), faults: 2 };
  for (let i = 0; i < 3; i++) expect(hour()).toEqual([expect.objectContaining(line)]);
  source = good;
  await proxy.reload();
  expect(hour()).toEqual([]);
  source = { ...good, timeout: "soon" };
  await expect(proxy.reload()).rejects.toThrow();
  await proxy.close();
  expect(hour()).toEqual([]);
});
