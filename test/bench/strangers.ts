// What strangers cost: CPU for each handshake that the proxy has to refuse, by clients whose certificates nobody vouches
// for. The longer a chain, the more signatures there are to check before it is clear that it leads nowhere.

import { HOSTILE_CHAIN } from "./certificates.ts";
import { cpuPerOperation, type LoadMeasure } from "./measures.ts";

const ORDINARY = "CPU per handshake of a stranger with one certificate, that it signed itself; ECDSA P-256";
const CHAIN = `a chain of ${HOSTILE_CHAIN} certificates that it made itself`;
const EXEMPT = "in tcpproxy the client is in handshakes.exempt, so that no limit holds";

/** Measures of strangers. */
export const STRANGERS: readonly LoadMeasure[] = [
  stranger("handshake-stranger", "stranger", `${ORDINARY}; ${EXEMPT}`),
  stranger("handshake-hostile", "hostile", `the same with ${CHAIN}; ${EXEMPT}`),
  {
    name: "handshake-flood",
    keys: "ecdsa",
    task: (ms) => ({ kind: "flood", who: "hostile", ms, concurrency: 8 }),
    quick: { rounds: 1, amount: 1_000 },
    full: { rounds: 7, amount: 3_000 },
    rows: [
      {
        name: "handshake-flood",
        unit: "ms/s",
        about: `CPU a second that strangers with ${CHAIN} can take, 8 at a time from one address without pause; with tcpproxy's limits as they are built in: few get to TLS`,
        figure: ({ cpu, outcome }) => cpu / (outcome.ms / 1_000),
      },
    ],
  },
];

function stranger(name: string, who: "stranger" | "hostile", about: string): LoadMeasure {
  return {
    name,
    keys: "ecdsa",
    exempt: true,
    task: (count) => ({ kind: "stranger", who, count, concurrency: 8 }),
    quick: { rounds: 2, amount: who === "hostile" ? 16 : 120 },
    full: { rounds: 7, amount: who === "hostile" ? 160 : 1_000 },
    rows: [{ name, about, ...cpuPerOperation }],
  };
}
