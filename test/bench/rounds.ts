// Runs measures. Rounds are interleaved (A, B, C, A, B, C, …), so that a machine whose speed drifts is unfair to nobody.
// CPU is that of the proxy's own processes; the generators and the backend are processes of their own.

import { freePort } from "../support/free-port.ts";
import { existsSync } from "node:fs";
import { Client } from "./client.ts";
import { Load, linesOf } from "./load.ts";
import { STARTUP, type LoadMeasure, type MemoryMeasure, type Row } from "./measures.ts";
import type { Keys, Peer } from "./peers.ts";
import { countOf, percentileOfRounds } from "./percentiles.ts";
import { cpuOf, memoryOf, remember } from "./processes.ts";
import { start, type Running } from "./running.ts";

/** One row: the figures of all rounds, by peer. */
export interface Figures {
  readonly row: Row;
  readonly byPeer: Map<string, number[]>;
  /** How many round trips of each peer it is made of. */
  samples?: number;
}

/** What all measures have in common. */
export interface Bench {
  readonly peers: readonly Peer[];
  /** Client's ends, which are measured in front of this proxy. */
  readonly tunnels: readonly Peer[];
  readonly quick: boolean;
  /** Folders of certificates. */
  readonly certs: Readonly<Record<Keys, string>>;
  /** A folder for the peers' files. */
  readonly scratch: string;
  /** The backend's port. */
  readonly backend: number;
  /** The most connections at a time. */
  readonly connections: number;
  /** Says how far it is. */
  readonly progress: (text: string) => void;
}

/** The service behind every proxy. */
export async function startBackend(): Promise<{ port: number; pid: number }> {
  const child = remember(Bun.spawn([process.execPath, `${import.meta.dir}/backend.ts`], { stdout: "pipe" }));
  const { value } = await linesOf(child.stdout).next();
  if (value === undefined) throw new Error("the backend failed");
  return { port: Number(value), pid: child.pid };
}

/** A measure under load, on all peers that can do what it is about. */
export async function load(given: Bench, measure: LoadMeasure): Promise<Figures[]> {
  const { bench, end } = measure.tunnel ? await behindProxy(given, measure.keys) : { bench: given, end() {} };
  const { rounds, amount } = bench.quick ? measure.quick : measure.full;
  const able = measure.tickets
    ? leaveOut(bench, measure.name, "cannot resume sessions", ({ tickets }) => tickets)
    : measure.workers
      ? leaveOut(bench, measure.name, "has no number of workers", ({ workers }) => workers)
      : measure.fleet
        ? leaveOut(bench, measure.name, "has no fleet", ({ fleet }) => fleet)
        : measure.watched
          ? leaveOut(bench, measure.name, "has no metrics of this kind", ({ watched }) => watched)
          : bench.peers;
  const scraped = measure.watched && freePort();
  const scraping = scraped === undefined ? undefined : setInterval(() => scrape(scraped), 1_000);
  const store = measure.fleet && (await startStore(bench));
  const contestants: { running: Running; figures: Figures[]; latencies: Float64Array[] }[] = [];
  const table: Figures[] = [];
  for (const workers of measure.workers ?? [1]) {
    const figures = measure.rows.map((row) => {
      const name = measure.workers === undefined ? row.name : `workers-${workers}-${row.name}`;
      return { row: { ...row, name }, byPeer: new Map<string, number[]>() };
    });
    table.push(...figures);
    for (const peer of able) {
      const running = await begin(bench, peer, measure.keys, {
        workers,
        tickets: measure.tickets === true,
        store,
        watched: scraped,
        exempt: measure.exempt === true,
      });
      contestants.push({ running, figures, latencies: [] });
    }
  }
  for (let round = 0; round <= rounds; round++) {
    for (const { running, figures, latencies } of contestants) {
      // Round 0 warms up.
      const share = round === 0 ? Math.round(amount / 5) : amount;
      const result = await once(bench, measure, running, share).catch(blame(running.peer));
      if (round === 0) continue;
      latencies.push(Float64Array.from(result.outcome.latencies ?? []));
      measure.rows.forEach((row, i) => {
        if ("figure" in row) note(figures[i]!, running.peer, row.figure(result));
      });
    }
    bench.progress(`${measure.name}: ${round === 0 ? "warm" : `round ${round} of ${rounds}`}`);
  }
  for (const { running, figures, latencies } of contestants) {
    await running.stop();
    measure.rows.forEach((row, i) => {
      if ("share" in row) notePercentile(figures[i]!, running.peer, latencies, row.share);
    });
  }
  clearInterval(scraping);
  await end();
  // The rows of one kind beside each other: 1 worker, 2 workers.
  return measure.rows
    .flatMap((_, i) => table.filter((__, at) => at % measure.rows.length === i))
    .filter(({ byPeer }) => byPeer.size > 0);
}

/** Runs a measure's task once, of so much, and says what it gave. */
export async function once(bench: Bench, measure: LoadMeasure, { pid, port }: Running, amount: number) {
  const server = { port, certs: bench.certs[measure.keys], plain: measure.tunnel === true };
  const main = await Load.ready(
    { ...server, ...measure.task(amount) },
    measure.workers === undefined ? 1 : 2,
  );
  const storm =
    measure.storm === undefined
      ? undefined
      : await Load.ready({ ...server, kind: "storm", concurrency: measure.storm });
  const stormy = storm?.run();
  if (storm !== undefined) await Bun.sleep(200);
  const before = cpuOf(pid);
  const outcome = await main.run();
  // Connections that have ended for the client end a moment later for the proxy.
  if (storm === undefined) await Bun.sleep(50);
  const cpu = cpuOf(pid) - before;
  storm?.release();
  const result = { outcome, cpu, ...(stormy && { storm: await stormy }) };
  await Promise.all([main.end(), storm?.end()]);
  return result;
}

/** Time from exec: to the first connection accepted, and to the first exchange done. */
export async function startup(bench: Bench): Promise<Figures[]> {
  const listening: Figures = { row: STARTUP.listening, byPeer: new Map() };
  const served: Figures = { row: STARTUP.served, byPeer: new Map() };
  const rounds = bench.quick ? STARTUP.quick : STARTUP.full;
  for (let round = 0; round <= rounds; round++) {
    for (const peer of bench.peers) {
      const running = await begin(bench, peer, "rsa");
      await new Client({ port: running.port, certs: bench.certs.rsa }).exchange();
      const done = performance.now() - running.began;
      await running.stop();
      // Round 0 has the programs read from the disk.
      if (round === 0) continue;
      note(listening, peer, running.listening);
      note(served, peer, done);
    }
  }
  bench.progress(`${STARTUP.name}: ${rounds} rounds`);
  return [listening, served];
}

/** Resident memory. Each round has fresh processes. */
export async function idle(given: Bench, measure: MemoryMeasure): Promise<Figures[]> {
  const { bench, end } = measure.tunnel ? await behindProxy(given, "rsa") : { bench: given, end() {} };
  const figures: Figures = { row: measure.row, byPeer: new Map() };
  for (let round = 1; round <= measure.rounds; round++) {
    for (const peer of bench.peers) {
      const { pid, port, stop } = await begin(bench, peer, "rsa");
      const server = { port, certs: bench.certs.rsa, plain: measure.tunnel === true };
      // What is made once, with the first connections, is not counted: it would be the less per connection the more
      // there are. 1,000 and 2,000 connections differ by the same figure per connection.
      const warm = await Load.ready({ ...server, kind: "connect", count: 500, concurrency: 16 });
      await warm.run();
      await warm.end();
      await Bun.sleep(500);
      const before = memoryOf(pid);
      const held = await Load.ready({ ...server, kind: "idle", count: measure.connections }).catch(
        blame(peer),
      );
      await Bun.sleep(500);
      const holding = held.run();
      note(figures, peer, (memoryOf(pid) - before) / 1_024 / measure.connections);
      held.release();
      await holding.catch(blame(peer));
      await held.end();
      await stop();
      bench.progress(`${measure.name}: round ${round} of ${measure.rounds}, ${peer.name}`);
    }
  }
  await end();
  return [figures];
}

/** The client's ends as contestants, and this proxy as what is behind them. */
async function behindProxy(bench: Bench, keys: Keys): Promise<{ bench: Bench; end: () => Promise<void> }> {
  const { port, stop } = await begin(bench, bench.peers[0]!, keys);
  return { bench: { ...bench, peers: bench.tunnels, backend: port }, end: stop };
}

/** Starts a peer on what the bench has. */
export function begin(
  bench: Bench,
  peer: Peer,
  keys: Keys,
  {
    workers = 1,
    tickets = false,
    store,
    watched,
    exempt = false,
  }: {
    workers?: number;
    tickets?: boolean;
    store?: string | undefined;
    watched?: number | undefined;
    exempt?: boolean;
  } = {},
): Promise<Running> {
  const { backend, connections, scratch } = bench;
  return start(
    peer,
    { backend, connections, certs: bench.certs[keys], tickets, workers, store, watched, exempt },
    scratch,
  );
}

/** A Redis on a socket in the file system. */
async function startStore({ scratch }: Bench): Promise<string> {
  const program = Bun.which("redis-server");
  if (program === null) throw new Error("redis-server is missing");
  const path = `${scratch}/store.sock`;
  remember(
    Bun.spawn([program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", scratch], {
      stdout: "ignore",
      stderr: "ignore",
    }),
  );
  for (let i = 0; i < 200 && !existsSync(path); i++) await Bun.sleep(10);
  return `redis+unix://${path}`;
}

/** Those that can, and a word about those that cannot. */
export function leaveOut(
  { peers, progress }: Bench,
  measure: string,
  why: string,
  can: (peer: Peer) => boolean,
): readonly Peer[] {
  for (const { name } of peers.filter((peer) => !can(peer)))
    progress(`${measure}: ${name} ${why}: it is left out`);
  return peers.filter(can);
}

/** A problem names the peer. */
export function blame({ name }: Peer): (error: Error) => never {
  return ({ message }) => {
    throw new Error(`${name}: ${message}`);
  };
}

/** Asks for the metrics. While the proxy starts or ends there is no answer. */
export function scrape(port: number): void {
  void fetch(`http://127.0.0.1:${port}/metrics`)
    .then((each) => each.text())
    .catch(() => {});
}

/** Adds a percentile of all rounds, if there are enough samples for it. */
export function notePercentile(
  figures: Figures,
  peer: Peer,
  latencies: readonly Float64Array[],
  share: number,
): void {
  note(figures, peer, ...percentileOfRounds(latencies, share).map((ms) => ms * 1_000));
  figures.samples = countOf(latencies);
}

/** Adds figures; none is no entry. */
export function note({ byPeer }: Figures, { name }: Peer, ...more: number[]): void {
  if (more.length > 0) byPeer.set(name, [...(byPeer.get(name) ?? []), ...more]);
}
