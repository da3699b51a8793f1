// The tarpit, which delays the reset of connections that are refused at accept.

import { afterEach, expect, jest, test } from "bun:test";
import { Tarpit, type HeldSocket } from "../../src/connection/tarpit.ts";

class Held implements HeldSocket {
  paused = false;
  over = false;
  pause(): void {
    this.paused = true;
  }
  terminate(): void {
    this.over = true;
  }
}

function tarpit(room = 1_000) {
  jest.useFakeTimers();
  const house = { taken: 0, now: 0 };
  const budget = {
    take(count: number) {
      if (house.taken + count > room) return false;
      house.taken += count;
      return true;
    },
    giveBack(count: number) {
      house.taken -= count;
    },
  };
  const pit = new Tarpit(budget, () => house.now);
  const advance = (ms: number) => {
    house.now += ms;
    jest.advanceTimersByTime(ms);
  };
  return { house, pit, advance };
}

afterEach(() => void jest.useRealTimers());

test("the tarpit holds a connection for a second, unread, and then resets it", () => {
  const { house, pit, advance } = tarpit();
  const socket = new Held();
  pit.hold(socket);
  advance(999);
  expect([socket.paused, socket.over, house.taken]).toEqual([true, false, 1]);
  advance(1);
  expect([socket.over, house.taken]).toEqual([true, 0]);
});

test("the tarpit holds each connection for its own second", () => {
  const { house, pit, advance } = tarpit();
  const [first, second] = [new Held(), new Held()];
  pit.hold(first);
  advance(600);
  pit.hold(second);
  advance(400);
  expect([first.over, second.over]).toEqual([true, false]);
  advance(600);
  expect([second.over, house.taken]).toEqual([true, 0]);
});

test("the tarpit gives the descriptor of a client that leaves back once", () => {
  const { house, pit, advance } = tarpit();
  const socket = new Held();
  pit.hold(socket);
  pit.closed(socket);
  pit.closed(socket);
  advance(1_000);
  expect([socket.over, house.taken]).toEqual([false, 0]);
  // A socket that was never held gives nothing back.
  pit.closed(new Held());
  expect(house.taken).toBe(0);
});

test("the tarpit holds at most 256 connections and resets the next one at once", () => {
  const { house, pit } = tarpit();
  const sockets = Array.from({ length: 257 }, () => new Held());
  for (const socket of sockets) pit.hold(socket);
  expect(sockets.filter(({ over }) => over)).toEqual([sockets[256]!]);
  expect(house.taken).toBe(256);
});

test("the tarpit resets a connection at once where no descriptor can be spared", () => {
  const { pit } = tarpit(1);
  const [first, second] = [new Held(), new Held()];
  pit.hold(first);
  pit.hold(second);
  expect([first.over, second.over]).toEqual([false, true]);
});

test("the tarpit resets all connections when it is cleared, and holds new ones afterwards", () => {
  const { house, pit, advance } = tarpit();
  const sockets = [new Held(), new Held()];
  for (const socket of sockets) pit.hold(socket);
  expect([pit.clear(), pit.clear()]).toEqual([true, false]);
  expect([sockets.every(({ over }) => over), house.taken]).toEqual([true, 0]);
  const next = new Held();
  pit.hold(next);
  advance(1_000);
  expect([next.over, house.taken]).toEqual([true, 0]);
});
