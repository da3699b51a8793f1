// One direction of a relay, between simulated sockets.

import { describe, expect, test } from "bun:test";
import { Relay, type Stream } from "../../src/connection/relay.ts";
import { Random } from "../support/random.ts";

/** A sink that accepts `room` bytes, and a source that records whether it is paused. */
class Fake implements Stream {
  taken: number[] = [];
  room = Infinity;
  closed = false;
  shut = 0;
  paused = false;

  write(data: Uint8Array): number {
    if (this.closed || this.shut > 0) return -1;
    const count = Math.min(this.room, data.length);
    this.room -= count;
    this.taken.push(...data.subarray(0, count));
    return count;
  }
  shutdown() {
    this.shut++;
  }
  pause() {
    this.paused = true;
  }
  resume() {
    this.paused = false;
  }
}

function make(): { relay: Relay; source: Fake; sink: Fake } {
  const [relay, source, sink] = [new Relay(), new Fake(), new Fake()];
  relay.source = source;
  relay.sink = sink;
  return { relay, source, sink };
}

const bytes = (...values: number[]) => Uint8Array.from(values);

test("a relay writes at once what the sink accepts, and holds none of it", () => {
  const { relay, source, sink } = make();
  relay.push(bytes(1, 2, 3));
  expect(sink.taken).toEqual([1, 2, 3]);
  expect(source.paused).toBe(false);
  expect(relay.bytes).toBe(3);
});

test("a relay pauses the source while the sink does not accept everything", () => {
  const { relay, source, sink } = make();
  sink.room = 1;
  relay.push(bytes(1, 2, 3));
  expect(source.paused).toBe(true);
  expect(relay.bytes).toBe(1);
  sink.room = 1;
  relay.flush();
  expect(source.paused).toBe(true);
  sink.room = 9;
  relay.flush();
  expect(source.paused).toBe(false);
  expect(sink.taken).toEqual([1, 2, 3]);
  expect(relay.bytes).toBe(3);
});

test("a relay keeps the order of chunks that arrive after the pause", () => {
  const { relay, sink } = make();
  sink.room = 0;
  relay.push(bytes(1));
  sink.room = 9;
  relay.push(bytes(2));
  relay.push(bytes(3));
  expect(sink.taken).toEqual([]);
  relay.flush();
  expect(sink.taken).toEqual([1, 2, 3]);
});

test("a relay holds what arrives before it has a sink", () => {
  const { relay, source, sink } = make();
  relay.sink = undefined;
  relay.push(bytes(1));
  relay.end();
  expect(source.paused).toBe(true);
  relay.sink = sink;
  relay.flush();
  expect(sink.taken).toEqual([1]);
  expect(sink.shut).toBe(1);
  expect(relay.finished).toBe(true);
});

test("a relay ends the sink once, after the last byte", () => {
  const { relay, sink } = make();
  sink.room = 0;
  relay.push(bytes(1));
  relay.end();
  expect(sink.shut).toBe(0);
  sink.room = 1;
  relay.flush();
  relay.flush();
  relay.end();
  expect(sink.shut).toBe(1);
});

test("a relay counts nothing that a closed sink refused, and can still send it to another sink", () => {
  const { relay, source, sink } = make();
  sink.closed = true;
  relay.push(bytes(1, 2));
  expect(relay.bytes).toBe(0);
  expect(source.paused).toBe(true);
  const other = new Fake();
  relay.sink = other;
  relay.flush();
  expect(other.taken).toEqual([1, 2]);
});

describe("a relay over random schedules", () => {
  test("a relay delivers every byte in order, then the end, over random schedules", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = new Random(seed);
      const { relay, source, sink } = make();
      const sent: number[] = [];
      let ended = false;
      if (random.int(0, 3) === 0) relay.sink = undefined;
      for (let step = 0; step < 200; step++) {
        switch (random.int(0, 3)) {
          case 0:
            if (!source.paused && !ended) {
              const chunk = random.bytes(random.int(1, 50));
              sent.push(...chunk);
              relay.push(chunk);
            }
            break;
          case 1:
            sink.room = random.pick([0, 1, 7, 100, Infinity]);
            break;
          case 2:
            relay.sink = sink;
            relay.flush();
            break;
          case 3:
            if (!ended && random.int(0, 40) === 0) {
              ended = true;
              relay.end();
            }
            break;
        }
        expect(sink.taken).toEqual(sent.slice(0, sink.taken.length));
        expect(relay.bytes).toBe(sink.taken.length);
        expect(relay.finished).toBe(sink.shut === 1);
      }
      if (!ended) relay.end();
      relay.sink = sink;
      sink.room = Infinity;
      relay.flush();
      expect({ seed, taken: sink.taken, shut: sink.shut }).toEqual({ seed, taken: sent, shut: 1 });
    }
  });
});
