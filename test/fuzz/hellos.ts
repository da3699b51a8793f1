// What unauthenticated clients send: a recorded ClientHello that is mutated, split and cut short; and the bytes of real
// handshakes that are mutated on their way.

import type { Random } from "../support/random.ts";
import { connect, connectPlain, Peer } from "../support/peer.ts";
import { House, type Target } from "./house.ts";
import { mutateBytes } from "./mutate.ts";

export async function hellos(): Promise<Target> {
  const hello = await record();
  const house = await House.open();
  return {
    async one(random) {
      if (random.int(0, 3) === 0) await spoilOnTheWay(house, random);
      else await sendSpoiled(house, hello, random);
      await house.empty();
    },
    rest: () => house.rest(),
    [Symbol.asyncDispose]: () => house[Symbol.asyncDispose](),
  };
}

/** The first flight of a real client. */
async function record(): Promise<Buffer> {
  const first = Promise.withResolvers<Buffer>();
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, chunk) {
        first.resolve(chunk);
        socket.terminate();
      },
    },
  });
  const client = await connect(listener.port).catch(() => undefined);
  client?.reset();
  listener.stop(true);
  return first.promise;
}

async function sendSpoiled(house: House, hello: Buffer, random: Random): Promise<void> {
  const before = house.reached;
  const client = (await connectPlain(house.port)).discard();
  const count = random.pick([1, 1, 1, 2, 3]);
  for (
    let bytes = Buffer.concat(Array.from({ length: count }, () => spoil(hello, random)));
    bytes.length > 0;
  ) {
    const piece = bytes.subarray(0, random.pick([1, 5, 64, bytes.length, bytes.length]));
    if (!(await client.send(piece))) break;
    bytes = bytes.subarray(piece.length);
    if (random.int(0, 3) === 0) await new Promise(setImmediate);
    if (random.int(0, 40) === 0) break;
  }
  await leave(client, random);
  if (house.reached !== before) throw new Error("half a handshake reached the target");
}

function spoil(hello: Buffer, random: Random): Buffer {
  switch (random.int(0, 5)) {
    case 0:
      return Buffer.from(random.bytes(random.int(1, 400)));
    case 1:
      return hello;
    case 2: {
      // Splits one message into many records, some of them empty.
      const records: Buffer[] = [];
      for (let rest = hello.subarray(5); rest.length > 0;) {
        const part = rest.subarray(0, random.int(0, 64));
        records.push(
          Buffer.from([hello[0]!, hello[1]!, hello[2]!, part.length >> 8, part.length & 0xff]),
          part,
        );
        rest = rest.subarray(part.length);
      }
      return Buffer.concat(records);
    }
    default:
      return mutateBytes(hello, random);
  }
}

async function leave(client: Peer, random: Random): Promise<void> {
  switch (random.int(0, 3)) {
    case 0:
      return client.reset();
    case 1:
      client.end();
      return client.reset();
    case 2:
      return client.close();
    default:
      client.end();
      // Gives the proxy time to answer, to send an alert or to close.
      await Promise.race([client.ended, Bun.sleep(5)]);
      client.reset();
  }
}

/** Mutates one chunk of a real client, or of the proxy. What the client receives must be a beginning of what it sent. */
async function spoilOnTheWay(house: House, random: Random): Promise<void> {
  const message = Buffer.from(random.bytes(random.int(1, 2_000)));
  const spoiling = { client: random.int(0, 3), proxy: random.int(0, 3) };
  using wire = await Wire.to(house.port, (chunk, from, number) => {
    if (spoiling[from] !== number) return chunk;
    return random.int(0, 5) === 0 ? undefined : mutateBytes(chunk, random);
  });
  // A handshake may wait for bytes that the mutation has removed.
  const patience = Bun.sleep(30).then(() => undefined);
  const client = await Promise.race([connect(wire.port).catch(() => undefined), wire.over, patience]);
  if (client === undefined) return;
  await Promise.race([client.send(message), client.closed, wire.over, patience]);
  const nothing = Promise.race([wire.over, patience]).then(() => Buffer.alloc(0));
  const answer = await Promise.race([client.read(message.length), nothing]);
  if (!answer.equals(message.subarray(0, answer.length))) throw new Error("a spoiled byte came through");
  client.reset();
}

type Spoiler = (chunk: Buffer, from: "client" | "proxy", number: number) => Buffer | undefined;

class Wire implements Disposable {
  /** Resolves when one of the two sides has closed. */
  readonly over: Promise<undefined>;
  readonly #over = Promise.withResolvers<undefined>();
  readonly #sockets: Bun.Socket<unknown>[] = [];
  #listener!: Bun.TCPSocketListener<unknown>;

  private constructor() {
    this.over = this.#over.promise;
  }

  /** @param spoil returns what is sent in place of a chunk, or undefined to reset both sides */
  static async to(port: number, spoil: Spoiler): Promise<Wire> {
    const wire = new Wire();
    const pump = (from: "client" | "proxy", other: () => Bun.Socket<unknown> | undefined) => {
      let number = 0;
      return {
        data(_: unknown, chunk: Buffer) {
          const spoiled = spoil(chunk, from, number++);
          if (spoiled === undefined) wire[Symbol.dispose]();
          else other()?.write(spoiled);
        },
        close: () => wire[Symbol.dispose](),
        error: () => wire[Symbol.dispose](),
      };
    };
    let near: Bun.Socket<unknown> | undefined;
    const far = await Bun.connect<unknown>({
      hostname: "127.0.0.1",
      port,
      socket: pump("proxy", () => near),
    });
    wire.#sockets.push(far);
    wire.#listener = Bun.listen<unknown>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        ...pump("client", () => far),
        open(socket) {
          near = socket;
          wire.#sockets.push(socket);
        },
      },
    });
    return wire;
  }

  get port(): number {
    return this.#listener.port;
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.terminate();
    this.#listener?.stop(true);
    this.#over.resolve(undefined);
  }
}
