// What `proxy top` shows at a moment: rates between two looks, connections in order, and the lines of a screen. Pure.

import type { ConnectionView, Status } from "../admin/api-types.ts";
import { CONNECTION } from "./connection-columns.ts";
import { fitGrid, gridLine, gridTitle, type Column } from "./grid.ts";
import { bytes, count, cut, perSecond, shown, span } from "./human.ts";

/** One look at the proxy. */
export interface Look {
  /** When, in milliseconds of a clock that only goes forward. */
  readonly at: number;
  readonly status: Status;
  readonly connections: readonly ConnectionView[];
}

/** A connection with the bytes that it moves a second, either way; undefined at the first look. */
export type Row = ConnectionView & { readonly rate: number | undefined };

/** What `top` knows after a look. */
export interface View {
  readonly status: Status;
  readonly rows: readonly Row[];
  /** A second, since the look before; undefined at the first one. */
  readonly rates: { readonly admitted: number; readonly refused: number; readonly bytes: number } | undefined;
}

/** By the name that `--sort` takes and whose first letter is the key; what comes first is larger. */
export const SORTS = {
  client: (a, b) => (a.client < b.client ? -1 : Number(a.client > b.client)),
  age: (a, b) => b.ageMs - a.ageMs,
  idle: (a, b) => b.idleMs - a.idleMs,
  bytes: (a, b) => moved(b) - moved(a),
  rate: (a, b) => (b.rate ?? 0) - (a.rate ?? 0),
} as const satisfies Record<string, (a: Row, b: Row) => number>;
export type Sort = keyof typeof SORTS;

export const SORT_NAMES = Object.keys(SORTS) as Sort[];

function moved({ bytesIn, bytesOut }: ConnectionView): number {
  return bytesIn + bytesOut;
}

/** Compares a look with the one before it. */
export function viewOf(look: Look, before: Look | undefined): View {
  const { status, connections } = look;
  if (before === undefined || look.at <= before.at) {
    return { status, rows: connections.map((each) => ({ ...each, rate: undefined })), rates: undefined };
  }
  const seconds = (look.at - before.at) / 1_000;
  const known = new Map(before.connections.map((each) => [each.id, moved(each)]));
  const each = (key: "admitted" | "refused" | "bytesIn" | "bytesOut") =>
    Math.max(0, status.totals[key] - before.status.totals[key]) / seconds;
  return {
    status,
    rows: connections.map((row) => ({
      ...row,
      rate: Math.max(0, moved(row) - (known.get(row.id) ?? 0)) / seconds,
    })),
    rates: {
      admitted: each("admitted"),
      refused: each("refused"),
      bytes: each("bytesIn") + each("bytesOut"),
    },
  };
}

/** In the order that a key asks for; those that are alike stay in the order of their names. */
export function sorted(rows: readonly Row[], sort: Sort): Row[] {
  const byId = (a: Row, b: Row) => (a.id < b.id ? -1 : Number(a.id > b.id));
  return rows.toSorted((a, b) => SORTS[sort](a, b) || byId(a, b));
}

const COLUMNS: readonly Column<Row>[] = [
  { ...CONNECTION.id, rank: 7 },
  CONNECTION.client,
  CONNECTION.from,
  CONNECTION.to,
  CONNECTION.age,
  CONNECTION.idle,
  { title: "BYTES", text: (row) => bytes(moved(row)), right: true, rank: 3 },
  {
    title: "RATE",
    text: ({ rate }) => (rate === undefined ? "-" : `${bytes(rate)}/s`),
    right: true,
    rank: 2,
  },
];

/** The lines of a screen. The title of the columns is in reverse. */
export function frame(
  view: View,
  sort: Sort,
  { columns, rows }: { columns: number; rows: number },
): string[] {
  const head = header(view).map((line) => cut(line, columns));
  const room = Math.max(0, rows - head.length - 3);
  const first = sorted(view.rows, sort).slice(0, room);
  const grid = fitGrid(COLUMNS, first, columns);
  const title = gridTitle(grid);
  const more = view.rows.length - first.length;
  return [
    ...head,
    `\x1b[7m${title}${" ".repeat(Math.max(0, columns - title.length))}\x1b[27m`,
    ...first.map((row) => gridLine(grid, row)),
    ...(room > first.length ? Array<string>(room - first.length).fill("") : []),
    cut(more > 0 ? `and ${count(more)} more` : "", columns),
    cut(
      `sort: ${SORT_NAMES.map((name) => (name === sort ? `[${name}]` : name)).join(" ")}   q quit`,
      columns,
    ),
  ].slice(0, rows);
}

function header({ status, rates }: View): string[] {
  const { connections, phase, version, uptimeMs, reload } = status;
  const faults = reload.faults.map(({ key, problem }) => `${key === undefined ? "" : `${key}: `}${problem}`);
  const perSecondOf = (value: number | undefined) => (value === undefined ? "-" : perSecond(value));
  return [
    `tcpproxy ${shown(version)}, ${shown(phase)} for ${span(uptimeMs)}`,
    [
      `open ${count(connections.open)} of ${count(connections.limit)}`,
      `admitted ${perSecondOf(rates?.admitted)}`,
      `refused ${perSecondOf(rates?.refused)}`,
      `carried ${rates === undefined ? "-" : `${bytes(rates.bytes)}/s`}`,
    ].join("   "),
    ...(faults.length === 0 ? [] : [`last reload refused: ${shown(faults.join("; "))}`]),
  ];
}
