// The load: TLS clients in a process of their own, which check every byte that comes back. Told by one JSON argument
// what to do; answers with one JSON line, after "ready" where it holds something open until its input ends.

import { readFileSync } from "node:fs";
import { Checker } from "./pattern.ts";

/** What a generator can be told. Ports are on loopback; `certs` is a folder with ca.crt, client.crt and client.key. */
export type Job = { port: number; certs: string } & (
  | { kind: "connect"; count: number; concurrency: number }
  | { kind: "roundtrip"; count: number; connections: number; size: number }
  | { kind: "download" | "upload"; bytes: number; connections: number }
  | { kind: "idle"; count: number }
  | { kind: "storm"; concurrency: number }
);

/** What it answers. Times are milliseconds. */
export interface Outcome {
  operations: number;
  ms: number;
  /** Of single operations, sorted; where the job measures them. */
  latencies?: number[];
}

interface State {
  ready: (socket: Bun.Socket<State>) => void;
  data: (socket: Bun.Socket<State>, chunk: Buffer) => void;
  over: (problem?: string) => void;
  drain?: (socket: Bun.Socket<State>) => void;
}

const job = JSON.parse(process.argv[2]!) as Job;
const pem = (name: string) => readFileSync(`${job.certs}/${name}`, "utf8");
const tls = {
  ca: pem("ca.crt"),
  cert: pem("client.crt"),
  key: pem("client.key"),
  serverName: "localhost",
  rejectUnauthorized: true,
  // What every peer can do: without it Bun's client and this proxy would agree on a post-quantum exchange.
  ecdhCurve: "X25519",
};

const handlers: Bun.SocketHandler<State> = {
  handshake: (socket, success, error) =>
    success && !error ? socket.data.ready(socket) : socket.data.over(`handshake: ${error?.message}`),
  data: (socket, chunk) => socket.data.data(socket, chunk),
  drain: (socket) => socket.data.drain?.(socket),
  end: (socket) => void socket.end(),
  close: (socket, error) => socket.data.over(error && String(error)),
  error: (socket, error) => socket.data.over(String(error)),
};

/** Opens a connection and answers when it is over; any problem is an exception. */
function open(state: Omit<State, "over">): Promise<void> {
  return new Promise((resolve, reject) => {
    const data: State = {
      ...state,
      over: (problem) => (problem === undefined ? resolve() : reject(new Error(problem))),
    };
    Bun.connect({
      hostname: "127.0.0.1",
      port: job.port,
      allowHalfOpen: true,
      data,
      tls,
      socket: handlers,
    }).catch(reject);
  });
}

async function sideBySide(count: number, work: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: count }, work));
}

/** A whole handshake, one byte there and back, and an orderly end. */
async function exchange(): Promise<void> {
  let right = false;
  await open({
    ready: (socket) => void socket.write("ex"),
    data(socket, chunk) {
      right = chunk.length === 1 && chunk[0] === 0x78;
      socket.end();
    },
  });
  if (!right) throw new Error("the byte did not come back");
}

async function connects(count: number, concurrency: number): Promise<Outcome> {
  let left = count;
  const start = performance.now();
  await sideBySide(concurrency, async () => {
    while (left-- > 0) await exchange();
  });
  return { operations: count, ms: performance.now() - start };
}

async function roundtrips(count: number, connections: number, size: number): Promise<Outcome> {
  const latencies: number[] = [];
  let left = count;
  let start = Infinity;
  await sideBySide(connections, async () => {
    const message = crypto.getRandomValues(Buffer.alloc(size));
    let got = 0;
    let sent = 0;
    const send = (socket: Bun.Socket<State>) => {
      if (left-- <= 0) return void socket.end();
      got = 0;
      sent = performance.now();
      start = Math.min(start, sent);
      socket.write(message);
    };
    await open({
      ready(socket) {
        socket.write("e");
        send(socket);
      },
      data(socket, chunk) {
        if (!chunk.equals(message.subarray(got, got + chunk.length)))
          throw new Error("wrong bytes came back");
        got += chunk.length;
        if (got < size) return;
        latencies.push(performance.now() - sent);
        send(socket);
      },
    });
  });
  return {
    operations: latencies.length,
    ms: performance.now() - start,
    latencies: latencies.sort((a, b) => a - b),
  };
}

async function transfers(kind: "download" | "upload", bytes: number, connections: number): Promise<Outcome> {
  const each = Math.floor(bytes / connections);
  const start = performance.now();
  const { PATTERN } = await import("./pattern.ts");
  await sideBySide(connections, async () => {
    const check = new Checker();
    let answer = "";
    let left = each;
    let rest = new Uint8Array(0);
    const pump = (socket: Bun.Socket<State>) => {
      while (left > 0) {
        if (rest.length === 0) rest = PATTERN.subarray(0, Math.min(PATTERN.length, left));
        const written = socket.write(rest);
        if (written > 0) left -= written;
        if (written !== rest.length) return void (rest = rest.subarray(Math.max(0, written)));
        rest = rest.subarray(written);
      }
    };
    await open({
      ready(socket) {
        socket.write(`${kind[0]}${each}\n`);
        if (kind === "upload") pump(socket);
      },
      data(_, chunk) {
        if (kind === "download") check.take(chunk);
        else answer += chunk;
      },
      drain: (socket) => void (kind === "upload" && pump(socket)),
    });
    if (kind === "download" ? check.count !== each || !check.right : answer !== "k")
      throw new Error(`a ${kind} went wrong`);
  });
  return { operations: each * connections, ms: performance.now() - start };
}

/** Until the input ends. */
const released = new Promise<void>((resolve) => {
  if (job.kind !== "idle" && job.kind !== "storm") return;
  process.stdin.on("end", resolve);
  process.stdin.resume();
});

async function idle(count: number): Promise<Outcome> {
  const sockets: Bun.Socket<State>[] = [];
  let left = count;
  await sideBySide(16, async () => {
    while (left-- > 0) {
      await new Promise<void>((up, failed) => {
        open({
          ready: (socket) => void socket.write("ex"),
          data(socket) {
            sockets.push(socket);
            up();
          },
        }).catch(failed);
      });
    }
  });
  console.log("ready");
  await released;
  for (const socket of sockets) socket.terminate();
  return { operations: sockets.length, ms: 0 };
}

async function storm(concurrency: number): Promise<Outcome> {
  let over = false;
  let operations = 0;
  void released.then(() => (over = true));
  const start = performance.now();
  console.log("ready");
  await sideBySide(concurrency, async () => {
    while (!over) {
      await exchange();
      operations++;
    }
  });
  return { operations, ms: performance.now() - start };
}

function run(): Promise<Outcome> {
  switch (job.kind) {
    case "connect":
      return connects(job.count, job.concurrency);
    case "roundtrip":
      return roundtrips(job.count, job.connections, job.size);
    case "download":
    case "upload":
      return transfers(job.kind, job.bytes, job.connections);
    case "idle":
      return idle(job.count);
    case "storm":
      return storm(job.concurrency);
  }
}

console.log(JSON.stringify(await run()));
process.exit(0);
