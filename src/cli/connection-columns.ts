// What a command shows of a connection, column by column. Pure.

import type { ConnectionView } from "../admin/api-types.ts";
import type { Column } from "./grid.ts";
import { bytes, shown, span, timeLeft } from "./human.ts";

const NUMBER = { right: true } as const;

/** Named for the reader: what makes way first has the highest rank. */
export const CONNECTION = {
  id: { title: "ID", text: ({ id }) => shown(id) },
  client: { title: "CLIENT", text: ({ client }) => shown(client), cut: "middle", least: 8 },
  from: { title: "FROM", text: ({ remote }) => shown(remote), least: 8, rank: 4 },
  to: { title: "TO", text: ({ upstream, target }) => `${shown(upstream)} ${shown(target)}`, least: 8 },
  age: { title: "AGE", text: ({ ageMs }) => span(ageMs), ...NUMBER, rank: 1 },
  idle: { title: "IDLE", text: ({ idleMs }) => span(idleMs), ...NUMBER, rank: 5 },
  bytesIn: { title: "IN", text: ({ bytesIn }) => bytes(bytesIn), ...NUMBER, rank: 2 },
  bytesOut: { title: "OUT", text: ({ bytesOut }) => bytes(bytesOut), ...NUMBER, rank: 3 },
} as const satisfies Record<string, Column<ConnectionView>>;

/** The balancer by which it came. */
export const VIA: Column<ConnectionView> = {
  title: "VIA",
  text: ({ peer }) => (peer === undefined ? "-" : shown(peer)),
  least: 8,
  rank: 7,
};

/** How long the client's certificate is still valid. */
export function certificateColumn(now: number): Column<ConnectionView> {
  return { title: "CERT", text: ({ notAfter }) => timeLeft(notAfter, now), ...NUMBER, rank: 6 };
}
