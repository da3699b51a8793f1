// Round trips while something else goes on beside them in the proxy, and without it: what it makes of the slow ones.
// Rounds with and without it are interleaved. One peer after the other: what goes on beside one must not disturb another.

import { freePort } from "../support/free-port.ts";
import { Load } from "./load.ts";
import type { LoadMeasure } from "./measures.ts";
import type { Peer } from "./peers.ts";
import { percentileOfRounds } from "./percentiles.ts";
import { begin, blame, leaveOut, note, notePercentile, once, scrape } from "./rounds.ts";
import type { Bench, Figures } from "./rounds.ts";
import type { Running } from "./running.ts";

/** What goes on, and how it is switched on and off between two rounds. */
interface BesideMeasure extends LoadMeasure {
  readonly can: (peer: Peer) => boolean;
  /** Why a peer that cannot is left out. */
  readonly why: string;
  readonly about: (bench: Bench) => string;
  readonly begin: (bench: Bench, peer: Peer) => Promise<Pair>;
}

/** A peer that is ready for rounds of both kinds. */
interface Pair {
  /** Has it on or off, and answers with the process to measure. */
  turn(on: boolean): Promise<Running>;
  end(): Promise<void>;
}

const EVERY_MS = 1_000;
/** After a process was stopped or let go on. */
const SETTLE_MS = 300;

const common = {
  keys: "ecdsa",
  task: (count: number) => ({ kind: "roundtrip", count, connections: 8, size: 256 }) as const,
  // A second at least: what goes on once a second is in each round.
  quick: { rounds: 1, amount: 30_000 },
  full: { rounds: 5, amount: 60_000 },
  rows: [],
} satisfies Partial<LoadMeasure>;

/** All of them. */
export const BESIDE: readonly BesideMeasure[] = [
  {
    ...common,
    name: "beside-idle",
    quick: { rounds: 2, amount: 5_000 },
    can: () => true,
    why: "",
    about: (bench) =>
      `${idleBeside(bench)} idle connections; two processes of each, the one not measured is stopped`,
    begin: beginIdle,
  },
  {
    ...common,
    name: "beside-reload",
    can: ({ reload, watched }) => reload !== undefined && watched,
    why: "reloads by a process beside the one that has the connections",
    about: () => "a reload of a changed configuration every second, with metrics and admin on in both",
    begin: async (bench, peer) => {
      const watched = freePort();
      const running = await begin(bench, peer, "ecdsa", { watched });
      const pair = toggled(running, () => peer.reload!(running.folder, running.pid));
      return {
        ...pair,
        async end() {
          const refused = await refusedReloads(watched);
          await pair.end();
          if (refused !== 0) throw new Error(`${refused} reloads were refused`);
        },
      };
    },
  },
  {
    ...common,
    name: "beside-scrape",
    can: ({ watched }) => watched,
    why: "has no metrics of this kind",
    about: () => "metrics scraped every second, with metrics and admin on in both",
    begin: async (bench, peer) => {
      const watched = freePort();
      return toggled(await begin(bench, peer, "ecdsa", { watched }), () => scrape(watched));
    },
  },
];

/** Of each percentile a row with it on, and one of how much more that is than without it. */
export async function beside(bench: Bench, measure: BesideMeasure): Promise<Figures[]> {
  const { rounds, amount } = bench.quick ? measure.quick : measure.full;
  const what = measure.about(bench);
  const rows = [0.99, 0.999].map((share) => {
    const name = `${measure.name}-p${share * 100}`;
    const slow: Figures = {
      row: { name, unit: "µs", about: `p${share * 100} of round trips beside ${what}` },
      byPeer: new Map(),
    };
    const ratio: Figures = {
      row: { name: `${name}-by`, unit: "×", about: "that, divided by the same without it" },
      byPeer: new Map(),
    };
    return { share, slow, ratio };
  });
  for (const peer of leaveOut(bench, measure.name, measure.why, measure.can)) {
    const pair = await measure.begin(bench, peer).catch(blame(peer));
    const latencies = { on: [] as Float64Array[], off: [] as Float64Array[] };
    for (let round = 0; round <= rounds; round++) {
      // Now the one is first, now the other.
      for (const on of round % 2 === 0 ? [false, true] : [true, false]) {
        const running = await pair.turn(on);
        // Round 0 warms up.
        const share = round === 0 ? Math.round(amount / 5) : amount;
        const { outcome } = await once(bench, measure, running, share).catch(blame(peer));
        if (round > 0) latencies[on ? "on" : "off"].push(Float64Array.from(outcome.latencies!));
      }
    }
    await pair.end();
    for (const { share, slow, ratio } of rows) {
      notePercentile(slow, peer, latencies.on, share);
      const without = percentileOfRounds(latencies.off, share);
      note(ratio, peer, ...percentileOfRounds(latencies.on, share).map((each, i) => each / without[i]!));
    }
    bench.progress(`${measure.name}: ${peer.name}, with and without`);
  }
  return rows.flatMap(({ slow, ratio }) => [slow, ratio]).filter(({ byPeer }) => byPeer.size > 0);
}

/** One process, with something done to it every second or not. */
function toggled(running: Running, act: () => void): Pair {
  let acting: Timer | undefined;
  const off = () => void clearInterval(acting);
  return {
    async turn(on) {
      off();
      // What was begun just before is done.
      await Bun.sleep(SETTLE_MS);
      if (on) acting = setInterval(act, EVERY_MS);
      return running;
    },
    async end() {
      off();
      await running.stop();
    },
  };
}

/** By its metrics: a refused reload costs little. */
async function refusedReloads(port: number): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(/reloads_total\{result="refused"\} (\d+)/.exec(metrics)![1]);
}

function idleBeside({ quick, connections }: Bench): number {
  return Math.min(quick ? 300 : 9_500, connections - 100);
}

/** Two processes on the same backend, one of which has the idle connections. */
async function beginIdle(bench: Bench, peer: Peer): Promise<Pair> {
  const without = await begin(bench, peer, "ecdsa");
  const busy = await begin(bench, peer, "ecdsa");
  const server = { port: busy.port, certs: bench.certs.ecdsa };
  const held = await Load.ready({ ...server, kind: "idle", count: idleBeside(bench) });
  const holding = held.run();
  // The clients have nothing to do, and are not to take time from anybody.
  held.signal("SIGSTOP");
  return {
    async turn(on) {
      process.kill(on ? without.pid : busy.pid, "SIGSTOP");
      process.kill(on ? busy.pid : without.pid, "SIGCONT");
      await Bun.sleep(SETTLE_MS);
      return on ? busy : without;
    },
    async end() {
      process.kill(busy.pid, "SIGCONT");
      held.signal("SIGCONT");
      held.release();
      // Fails if an idle connection was closed meanwhile.
      await holding;
      await held.end();
      await busy.stop();
      await without.stop();
    },
  };
}
