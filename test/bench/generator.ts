// The load: TLS clients in a process of their own, which check every byte that comes back. Told by one JSON argument
// what to do. Says "ready" once what has to be open is open, begins at a line on its input, answers with one JSON line,
// and holds open what is still open until its input ends.

import { Client, type Server, type Socket } from "./client.ts";
import { toSystemClock } from "./tails/clock.ts";
import { Checker, PATTERN } from "./pattern.ts";

/** What a generator can be told. */
export type Job = Server &
  (
    | { kind: "connect" | "resume"; count: number; concurrency: number }
    | { kind: "roundtrip"; count: number; connections: number; size: number; spans?: boolean }
    | { kind: "download" | "upload"; bytes: number; connections: number }
    | { kind: "idle"; count: number }
    | { kind: "stranger"; count: number; concurrency: number }
    | { kind: "flood"; ms: number; concurrency: number }
    | { kind: "storm"; concurrency: number }
  );

/** What it answers. Times are milliseconds. */
export interface Outcome {
  /** Connections, round trips or bytes. */
  operations: number;
  ms: number;
  /** Of single operations; where the job measures them. */
  latencies?: number[];
  /** Of each operation when it began and when it was done, by the system's monotonic clock; where the job says so. */
  spans?: number[];
}

/** The part of a job that is measured. Answers how many operations it did, and how long each took. */
type Work = () => Promise<Omit<Outcome, "ms">>;

const job = JSON.parse(process.argv[2]!) as Job;
const client = new Client(job);
const input = Bun.stdin.stream().getReader();

/** Until the input ends. */
async function released(): Promise<void> {
  while (!(await input.read()).done);
}

async function sideBySide(count: number, work: (lane: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, lane) => work(lane)));
}

/** Opens a connection and answers once it is up; `over` is its end. */
async function live(data: (socket: Socket, chunk: Buffer) => void, drain?: (socket: Socket) => void) {
  const { promise: up, resolve } = Promise.withResolvers<Socket>();
  const over = client.open({ ready: resolve, data, ...(drain && { drain }) });
  const early = over.then(() => Promise.reject(new Error("closed before it was up")));
  return { socket: await Promise.race([up, early]), over };
}

/** Handshakes: `resume` has one full handshake a lane in advance, and each one after it resumes the newest session. */
async function connects(count: number, concurrency: number, resume: boolean): Promise<Work> {
  const sessions = new Map<number, Buffer>();
  const next = async (lane: number) => {
    const session = await client.exchange(sessions.get(lane));
    if (!resume) return;
    if (session === undefined) throw new Error("no session ticket came");
    sessions.set(lane, session);
  };
  if (resume) await sideBySide(concurrency, next);
  return async () => {
    let left = count;
    await sideBySide(concurrency, async (lane) => {
      while (left-- > 0) await next(lane);
    });
    return { operations: count };
  };
}

async function roundtrips(count: number, connections: number, size: number, spans = false): Promise<Work> {
  // Allocated at once: what the generator collects as garbage meanwhile would be in the figures.
  const latencies = new Float64Array(count);
  const ends = new Float64Array(spans ? count : 0);
  let measured = 0;
  let left = count;
  const lanes: (() => Promise<void>)[] = [];
  await sideBySide(connections, async () => {
    const message = crypto.getRandomValues(Buffer.alloc(size));
    const { promise: done, resolve } = Promise.withResolvers<void>();
    let got = 0;
    let sent = 0;
    const send = () => {
      if (left-- <= 0) return resolve();
      got = 0;
      sent = performance.now();
      socket.write(message);
    };
    const { socket, over } = await live((_, chunk) => {
      const expected = chunk.length === size ? message : message.subarray(got, got + chunk.length);
      if (!chunk.equals(expected)) throw new Error("wrong bytes came back");
      got += chunk.length;
      if (got < size) return;
      const done = performance.now();
      ends[measured] = done;
      latencies[measured++] = done - sent;
      send();
    });
    socket.write("e");
    lanes.push(() => {
      send();
      return Promise.race([done, over.then(() => Promise.reject(new Error("closed early")))]);
    });
  });
  return async () => {
    await Promise.all(lanes.map((lane) => lane()));
    // To a tenth of a microsecond: it is sent as text.
    const round = (ms: number) => Math.round(ms * 1e4) / 1e4;
    const outcome = { operations: measured, latencies: Array.from(latencies, round) };
    if (!spans) return outcome;
    const offset = toSystemClock();
    const pairs = Array.from(ends, (end, i) => [end - latencies[i]! + offset, end + offset].map(round));
    return { ...outcome, spans: pairs.flat() };
  };
}

async function transfers(kind: "download" | "upload", bytes: number, connections: number): Promise<Work> {
  const each = Math.floor(bytes / connections);
  const lanes: (() => Promise<void>)[] = [];
  await sideBySide(connections, async () => {
    const check = new Checker();
    let answer = "";
    let left = each;
    let rest = new Uint8Array(0);
    // There may be a drain before the beginning.
    let begun = false;
    const pump = () => {
      while (begun && left > 0) {
        if (rest.length === 0) rest = PATTERN.subarray(0, Math.min(PATTERN.length, left));
        const written = socket.write(rest);
        if (written > 0) left -= written;
        rest = rest.subarray(Math.max(0, written));
        if (rest.length > 0) return;
      }
    };
    const { socket, over } = await live(
      (_, chunk) => {
        if (kind === "download") check.take(chunk);
        else answer += chunk;
      },
      () => void (kind === "upload" && pump()),
    );
    lanes.push(async () => {
      socket.write(`${kind[0]}${each}\n`);
      begun = true;
      if (kind === "upload") pump();
      await over;
      if (kind === "download" ? check.count !== each || !check.right : answer !== "k")
        throw new Error(`a ${kind} went wrong`);
    });
  });
  return async () => {
    await Promise.all(lanes.map((lane) => lane()));
    return { operations: each * connections };
  };
}

/** Connections that have carried one byte and are then silent; all have to be open still when they are let go. */
async function idle(count: number): Promise<Work> {
  let left = count;
  let closed = 0;
  await sideBySide(16, async () => {
    while (left-- > 0) {
      const { promise: back, resolve } = Promise.withResolvers<void>();
      const { socket, over } = await live(() => resolve());
      void over.catch(() => {}).then(() => closed++);
      socket.write("ex");
      await Promise.race([back, over]);
    }
  });
  return async () => {
    await released();
    if (closed > 0) throw new Error(`${closed} idle connections were closed`);
    return { operations: count };
  };
}

/** The same for so long; what is not refused by then is left. */
async function flood(ms: number, concurrency: number): Promise<Work> {
  return async () => {
    const counted = { operations: 0 };
    const flooding = sideBySide(concurrency, async () => {
      for (;;) {
        if (await client.isServed()) throw new Error("a stranger was served");
        counted.operations++;
      }
    });
    await Promise.race([Bun.sleep(ms), flooding]);
    return counted;
  };
}

/** Full handshakes without pause, until the input ends. */
async function storm(concurrency: number): Promise<Work> {
  return async () => {
    let over = false;
    let operations = 0;
    void released().then(() => (over = true));
    await sideBySide(concurrency, async () => {
      for (; !over; operations++) await client.exchange();
    });
    return { operations };
  };
}

/** Handshakes that the proxy has to refuse. */
async function strangers(count: number, concurrency: number): Promise<Work> {
  return async () => {
    let left = count;
    await sideBySide(concurrency, async () => {
      while (left-- > 0) {
        if (await client.isServed()) throw new Error("a stranger was served");
      }
    });
    return { operations: count };
  };
}

function prepare(): Promise<Work> {
  switch (job.kind) {
    case "connect":
    case "resume":
      return connects(job.count, job.concurrency, job.kind === "resume");
    case "roundtrip":
      return roundtrips(job.count, job.connections, job.size, job.spans);
    case "download":
    case "upload":
      return transfers(job.kind, job.bytes, job.connections);
    case "idle":
      return idle(job.count);
    case "stranger":
      return strangers(job.count, job.concurrency);
    case "flood":
      return flood(job.ms, job.concurrency);
    case "storm":
      return storm(job.concurrency);
  }
}

const work = await prepare();
console.log("ready");
await input.read();
const start = performance.now();
const result = await work();
console.log(JSON.stringify({ ...result, ms: performance.now() - start } satisfies Outcome));
await released();
process.exit(0);
