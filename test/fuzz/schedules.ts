// Clients and targets that send, read, wait, end, close and reset in random order, several at a time, with reloads in
// between. Each byte follows from its position, so that every arrival is checked: it must be a beginning of what was sent,
// and all of it where both sides end in an orderly way.

import { connect, Origin, type Peer } from "../support/peer.ts";
import { Random } from "../support/random.ts";
import { House, type Target } from "./house.ts";

/** What a target does with one connection. */
type Behaviour =
  | { readonly kind: "echo" | "reset" | "close" | "deaf" }
  | {
      readonly kind: "reset after" | "answer first" | "answer last" | "answer and close";
      readonly bytes: number;
    };

/** How many of a client's bytes reached a target, and what that target does. */
interface Arrival {
  readonly length: number;
  readonly behaviour: Behaviour;
}

/** Milliseconds after which a case counts as stuck. */
const STUCK = 10_000;

/** A stream that begins with `first`: each byte is one more than the one before. */
function stream(first: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (first + i) & 0xff;
  return bytes;
}

/** Reads to the end or up to `most` bytes, checks each byte, and returns the first one and the number of bytes. */
async function readStream(peer: Peer, most = Infinity): Promise<{ first: number; length: number }> {
  let length = 0;
  let first = -1;
  while (length < most) {
    const chunk = await peer.some();
    if (chunk.length === 0) break;
    if (first === -1) first = chunk[0]!;
    for (const byte of chunk) {
      if (byte !== ((first + length++) & 0xff))
        throw new Error(`byte ${length - 1} is not the one that was sent`);
    }
  }
  return { first, length };
}

export async function schedules(workers = 1): Promise<Target> {
  /** What targets do with the connections of the current case, in order. Connections after that get an echo. */
  let behaviours: Behaviour[] = [];
  const arrived = new Map<number, Arrival>();
  const errors: unknown[] = [];
  let checks: (() => void)[] = [];

  async function serve(peer: Peer): Promise<void> {
    const behaviour = behaviours.shift() ?? { kind: "echo" };
    const note = async (most?: number) => {
      const { first, length } = await readStream(peer, most);
      arrived.set(first, { length, behaviour });
    };
    switch (behaviour.kind) {
      case "echo":
        for (let all = 0, first = -1, chunk = await peer.some(); ; chunk = await peer.some()) {
          if (chunk.length === 0) return peer.close();
          if (first === -1) first = chunk[0]!;
          arrived.set(first, { length: (all += chunk.length), behaviour });
          if (!(await peer.send(chunk))) return;
        }
      case "reset":
        return peer.reset();
      case "close":
        return peer.close();
      case "deaf":
        peer.socket.pause();
        await Bun.sleep(50);
        peer.socket.resume();
        await note();
        return peer.close();
      case "reset after":
        await note(behaviour.bytes);
        return peer.reset();
      case "answer first": {
        const reading = note();
        await peer.send(stream(1, behaviour.bytes));
        peer.end();
        await reading;
        return peer.close();
      }
      case "answer last":
        await note();
        await peer.send(stream(1, behaviour.bytes));
        return peer.close();
      case "answer and close":
        await peer.send(stream(1, behaviour.bytes));
        return peer.close();
    }
  }
  const serving = new Set<Promise<unknown>>();
  const origin = new Origin((peer) => {
    const done = serve(peer)
      .catch((error: unknown) => errors.push(error))
      .finally(() => serving.delete(done));
    serving.add(done);
  });
  const house = await House.open({ workers }, origin);

  function behaviour(random: Random): Behaviour {
    const bytes = random.pick([0, 1, 100, 20_000, 600_000]);
    return random.pick<Behaviour>([
      { kind: "echo" },
      { kind: "echo" },
      { kind: "reset" },
      { kind: "close" },
      { kind: "deaf" },
      { kind: "reset after", bytes: bytes + 1 },
      { kind: "answer first", bytes },
      { kind: "answer last", bytes },
      { kind: "answer and close", bytes },
    ]);
  }

  async function visit(id: number, orderly: boolean, random: Random): Promise<void> {
    const client = await connect(house.port).catch(() => undefined);
    if (client === undefined) return;
    const length = random.pick([1, 10, 5_000, 100_000, 900_000]);
    const sending = (async () => {
      const all = stream(id, length);
      const piece = random.pick([1, 700, 70_000, length]);
      for (let at = 0; at < length; at += Math.max(piece, length >> 6)) {
        if (!(await client.send(all.subarray(at, at + Math.max(piece, length >> 6))))) return;
        if (random.int(0, 3) === 0) await new Promise(setImmediate);
      }
      if (orderly) client.end();
    })();
    if (orderly) {
      if (random.int(0, 2) === 0) {
        client.socket.pause();
        await Bun.sleep(random.int(0, 10));
        client.socket.resume();
      }
      const got = await readStream(client);
      await sending;
      client.close();
      // Checked once the targets are done too: all bytes must have arrived.
      checks.push(() => expectWhole(arrived.get(id), length, got.length));
      return;
    }
    const reading = readStream(client, random.pick([0, 1, 10_000, Infinity]));
    reading.catch((error: unknown) => errors.push(error));
    await Promise.race([sending, reading, Bun.sleep(random.int(0, 10))]);
    if (random.int(0, 1) === 0) client.end();
    if (random.int(0, 1) === 0) await new Promise(setImmediate);
    if (random.int(0, 1) === 0) client.close();
    if (random.int(0, 1) === 0) await Bun.sleep(random.int(0, 5));
    client.reset();
    await client.closed;
  }

  return {
    async one(random) {
      const count = random.int(1, 6);
      arrived.clear();
      checks = [];
      behaviours = Array.from({ length: count }, () => behaviour(random));
      const orderly = random.int(0, 2) > 0;
      // Each visit has a seed of its own, so that its choices do not depend on the timing of others.
      const seeds = behaviours.map(() => random.int(0, 1_000_000));
      const visits = seeds.map((seed, i) => visit(i * 37 + 2, orderly, new Random(seed)));
      const reload = random.int(0, 9) === 0 ? house.proxy.proxy.reload() : Promise.resolve();
      const all = Promise.all([...visits, reload]).then(() => house.empty());
      const over = all.then(() => Promise.all(serving)).then(() => "over" as const);
      const timer = Promise.withResolvers<"stuck">();
      const timeout = setTimeout(() => timer.resolve("stuck"), STUCK);
      const end = await Promise.race([over, timer.promise]);
      clearTimeout(timeout);
      if (end === "stuck") throw new Error(`stuck: ${JSON.stringify(house.proxy.proxy.stats())}`);
      behaviours = [];
      if (errors.length > 0) throw errors[0];
      for (const check of checks) check();
    },
    rest: () => house.rest(),
    [Symbol.asyncDispose]: () => house[Symbol.asyncDispose](),
  };
}

/** Checks an orderly exchange. Where the target was not an orderly one, nothing is promised. */
function expectWhole(there: Arrival | undefined, sent: number, back: number): void {
  if (there === undefined || !isOrderly(there.behaviour)) return;
  const { behaviour, length } = there;
  const expected = "bytes" in behaviour ? behaviour.bytes : sent;
  if (length === sent && back === expected) return;
  throw new Error(
    `${JSON.stringify(behaviour)}: of ${sent} bytes ${length} arrived, of ${expected} ${back} came back`,
  );
}

function isOrderly({ kind }: Behaviour): boolean {
  return kind === "echo" || kind === "answer first" || kind === "answer last";
}
