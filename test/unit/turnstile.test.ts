import { expect, test } from "bun:test";
import { Turnstile } from "../../src/turnstile.ts";

/** A turnstile whose turns the test makes, and sockets that say when they are resumed. */
function make() {
  const turns: (() => void)[] = [];
  const resumed: number[] = [];
  const turnstile = new Turnstile((turn) => turns.push(turn));
  const sockets = Array.from({ length: 10 }, (_, i) => ({
    paused: false,
    pause() {
      this.paused = true;
    },
    resume() {
      this.paused = false;
      resumed.push(i);
    },
  }));
  const turn = (times = 1) => {
    for (let i = 0; i < times; i++) turns.shift()?.();
  };
  return { turnstile, sockets, resumed, turns, turn };
}

test("newcomers are held back and let go in order, one every other turn", () => {
  const { turnstile, sockets, resumed, turn } = make();
  for (const socket of sockets.slice(0, 3)) turnstile.enter(socket);
  expect(sockets.map(({ paused }) => paused).slice(0, 4)).toEqual([true, true, true, false]);
  turn();
  expect(resumed).toEqual([]);
  turn();
  expect(resumed).toEqual([0]);
  turn(4);
  expect(resumed).toEqual([0, 1, 2]);
});

test("there is one turn outstanding while anybody waits, and none when nobody does", () => {
  const { turnstile, sockets, turns, turn } = make();
  for (const socket of sockets) {
    turnstile.enter(socket);
    expect(turns).toHaveLength(1);
  }
  turn(20);
  expect(turns).toHaveLength(0);
  turnstile.enter(sockets[0]!);
  expect(turns).toHaveLength(1);
});

test("who has left is passed over", () => {
  const { turnstile, sockets, resumed, turns, turn } = make();
  for (const socket of sockets.slice(0, 3)) turnstile.enter(socket);
  turnstile.leave(sockets[0]!);
  turn(2);
  expect(resumed).toEqual([1]);
  turnstile.leave(sockets[2]!);
  turnstile.enter(sockets[3]!);
  expect(turns).toHaveLength(1);
  turn(4);
  expect(resumed).toEqual([1, 3]);
  expect(turns).toHaveLength(0);
});
