// The log's backlog: bounded, in order, and every dropped line counted.

import { expect, test } from "bun:test";
import { Backlog } from "../../src/lib/backlog.ts";
import { Random } from "../support/random.ts";

/** A reader that takes `room` lines and then stalls. */
function reader(room: number, most: number) {
  const read: string[] = [];
  const backlog = new Backlog(
    (line) => (read.push(line), --room > 0),
    (dropped) => `dropped ${dropped}\n`,
    most,
  );
  const resume = (lines: number) => {
    room = lines;
    backlog.drained();
  };
  return { read, backlog, resume };
}

test("a backlog keeps lines in order up to its bound, drops the rest, and writes one line that counts them", () => {
  const { read, backlog, resume } = reader(2, 40);
  for (let i = 0; i < 100; i++) backlog.write(`line ${String(i).padStart(2, "0")}\n`);
  expect(read).toEqual(["line 00\n", "line 01\n"]);
  expect(backlog.empty).toBe(false);
  resume(3);
  expect(read.slice(2)).toEqual(["line 02\n", "line 03\n", "line 04\n"]);
  // Once a line was dropped, a shorter one that would fit is dropped too: the order stays true.
  backlog.write("x\n");
  resume(100);
  expect(read.slice(5)).toEqual(["line 05\n", "line 06\n", "dropped 94\n"]);
  backlog.write("y\n");
  expect(read.at(-1)).toBe("y\n");
  expect(backlog.empty).toBe(true);
});

test("a backlog measures its bound in bytes, not in characters", () => {
  const { read, backlog, resume } = reader(1, 10);
  for (const line of ["a", "é".repeat(4), "é".repeat(4)]) backlog.write(line);
  resume(10);
  expect(read).toEqual(["a", "é".repeat(4), "dropped 1\n"]);
});

test.each(Array.from({ length: 10 }, (_, seed) => seed))(
  "a backlog neither loses a line uncounted nor changes the order, seed %i",
  (seed) => {
    const random = new Random(seed);
    const { read, backlog, resume } = reader(3, 300);
    const written = 3_000;
    for (let i = 0; i < written; i++) {
      backlog.write(`${i}`.padEnd(random.int(4, 40)));
      if (random.next() < 0.03) resume(random.int(1, 40));
    }
    resume(Infinity);
    let next = 0;
    for (const line of read)
      next += line.startsWith("dropped ") ? Number(line.slice(8)) : Number(line) === next ? 1 : NaN;
    expect(next).toBe(written);
  },
);
