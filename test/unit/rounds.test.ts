// Rounds of looks at all connections: each once, a portion at a time, whatever comes and goes meanwhile.

import { describe, expect, test } from "bun:test";
import { PORTION, Rounds } from "../../src/engine/rounds.ts";
import { Random } from "../support/random.ts";

const EVERY = 250;

/** Rounds over connections that a test adds and takes away, by a clock of its own. */
class Course {
  now = 1_000;
  readonly connections = new Set<{ tick(): void }>();
  /** How often each was looked at in the round that goes on. */
  readonly looks = new Map<object, number>();
  readonly portions: number[] = [];
  readonly ends: number[] = [];
  readonly rounds: Rounds;
  #next: { at: number; call: () => void } | undefined;
  onEnd = () => {};

  constructor() {
    this.rounds = new Rounds({
      connections: this.connections,
      now: () => this.now,
      ended: (now) => {
        this.ends.push(now);
        this.onEnd();
        this.looks.clear();
      },
      schedule: (call, ms) => {
        const next = (this.#next = { at: this.now + ms, call });
        return () => {
          if (this.#next === next) this.#next = undefined;
        };
      },
    });
  }

  add(act: () => void = () => {}) {
    const it = {
      tick: () => {
        this.portions[this.portions.length - 1]!++;
        this.looks.set(it, (this.looks.get(it) ?? 0) + 1);
        act();
      },
    };
    this.connections.add(it);
    return it;
  }

  /** The next portion. @returns whether there was one */
  step(): boolean {
    const next = this.#next;
    if (next === undefined) return false;
    this.#next = undefined;
    this.now = Math.max(this.now, next.at);
    this.portions.push(0);
    next.call();
    return true;
  }

  /** To the end of the round. */
  round(): void {
    for (const had = this.ends.length; this.ends.length === had;) expect(this.step()).toBe(true);
  }
}

describe("rounds", () => {
  test.each([0, 1, PORTION, PORTION + 1, 9_500])(
    "over %d connections look at each once, in time",
    (count) => {
      const course = new Course();
      for (let i = 0; i < count; i++) course.add();
      course.rounds.run(EVERY);
      course.onEnd = () => {
        expect(course.looks.size).toBe(count);
        expect([...course.looks.values()].every((looks) => looks === 1)).toBe(true);
      };
      for (let i = 1; i <= 5; i++) course.round();
      expect(Math.max(...course.portions)).toBeLessThanOrEqual(PORTION);
      // A round takes an interval at most, and the next one begins an interval after it began.
      const gaps = course.ends.slice(1).map((at, i) => at - course.ends[i]!);
      for (const gap of gaps) expect(Math.abs(gap - EVERY)).toBeLessThanOrEqual(1);
    },
  );

  test.each([1, 2, 3, 4])("miss none that stays, while others come and go (seed %i)", (seed) => {
    const random = new Random(seed);
    const course = new Course();
    const stay = Array.from({ length: 1_000 }, () => course.add());
    course.rounds.run(EVERY);
    course.onEnd = () => {
      for (const each of stay) expect(course.looks.get(each)).toBe(1);
    };
    for (let i = 0; i < 200; i++) {
      for (let k = 0; k < 600; k++) course.add();
      for (const each of course.connections) {
        if (!stay.includes(each) && random.next() < 0.7) course.connections.delete(each);
        if (course.connections.size <= 1_500) break;
      }
      course.step();
    }
    expect(course.ends.length).toBeGreaterThan(20);
  });

  test("end, though more come at each look than one look takes", () => {
    const course = new Course();
    const grow = () => {
      if (course.connections.size < 5_000) for (let i = 0; i < 3; i++) course.add(grow);
    };
    for (let i = 0; i < 10; i++) course.add(grow);
    course.rounds.run(EVERY);
    for (let i = 0; i < 20; i++) course.round();
    expect(course.ends).toHaveLength(20);
  });

  test("stop in the middle of one, and begin anew at another pace", () => {
    const course = new Course();
    for (let i = 0; i < 1_000; i++) course.add(() => void (i === 300 && course.rounds.run(0)));
    course.rounds.run(EVERY);
    while (course.step());
    expect(course.ends).toHaveLength(0);
    course.rounds.run(40);
    expect(course.step()).toBe(true);
    expect(course.portions.at(-1)).toBe(PORTION);
    course.rounds.run(40);
    expect(course.step()).toBe(true);
  });
});
