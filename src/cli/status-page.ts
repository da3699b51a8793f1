// The page that `proxy status` prints. Pure.

import type { Status, TargetView } from "../admin/api-types.ts";
import { fitGrid, gridLine, gridTitle, type Column } from "./grid.ts";
import { bytes, count, cut, shown, span, timeLeft } from "./human.ts";
import { meaningOf } from "./meaning.ts";

/** @param now milliseconds since 1970 */
export function statusPage(status: Status, width: number, now: number): string[] {
  const grid = <T>(title: string, rows: readonly T[], columns: readonly Column<T>[]): string[] => {
    if (rows.length === 0) return [];
    const fitted = fitGrid(columns, rows, width);
    return ["", cut(title, width), gridTitle(fitted), ...rows.map((row) => gridLine(fitted, row))];
  };
  return [
    ...about(status, now).map(([name, text]) => cut(`${name.padEnd(14)} ${text}`, width)),
    ...status.warnings.map((warning) => cut(`warning        ${shown(warning)}`, width)),
    ...grid("Listeners", status.listeners, LISTENER),
    ...grid("Upstreams", status.upstreams, UPSTREAM),
    ...grid(
      "Targets",
      status.upstreams.flatMap(({ targets }) => targets),
      TARGET,
    ),
    ...grid("Refusals since the start", refusals(status), REFUSAL),
    ...grid("Certificates and revocation lists", status.certificates, [
      { title: "LEFT", text: ({ notAfter }) => timeLeft(notAfter, now), right: true },
      { title: "LISTENER", text: ({ listener }) => shown(listener), least: 8 },
      { title: "WHAT", text: ({ what }) => shown(what), least: 10 },
    ]),
  ];
}

function about(status: Status, now: number): [string, string][] {
  const { version, runtime, pid, phase, uptimeMs, configFile, connections, clients, totals } = status;
  const silent = status.threads.filter(({ alive }) => !alive).map(({ thread }) => thread);
  const { reload } = status;
  const dropped = status.logLinesDropped;
  return [
    [
      "proxy",
      `${shown(version)} on ${shown(runtime)}, process ${pid}, ${shown(phase)} for ${span(uptimeMs)}`,
    ],
    ["configuration", configFile === undefined ? "no file" : shown(configFile)],
    [
      "reloads",
      `${count(reload.succeeded)} succeeded, ${count(reload.refused)} refused; in force for ${ago(reload.succeededAt, now)}`,
    ],
    ...reload.faults.map(({ key, problem }): [string, string] => [
      "last reload",
      `refused${reload.triedAt === undefined ? "" : ` ${ago(reload.triedAt, now)} ago`}: ${key === undefined ? "" : `${shown(key)}: `}${shown(problem)}`,
    ]),
    [
      "threads",
      silent.length === 0
        ? `${status.threads.length}`
        : `${status.threads.length}, silent: ${silent.join(", ")}`,
    ],
    ...fleetLines(status.fleet),
    ["connections", `${count(connections.open)} open, ${count(connections.limit)} at most`],
    ["clients", `${count(clients.tracked)} known, ${count(clients.limit)} at most`],
    [
      "since start",
      `${count(totals.accepted)} accepted, ${count(totals.admitted)} admitted, ${count(totals.refused)} refused, ${count(totals.closed)} ended`,
    ],
    ["bytes", `${bytes(totals.bytesIn)} from clients, ${bytes(totals.bytesOut)} to clients`],
    ...(dropped > 0 ? [["log", `${count(dropped)} lines dropped`] as [string, string]] : []),
  ];
}

/** Who counts together, and how the store is. */
function fleetLines(fleet: Status["fleet"]): [string, string][] {
  if (fleet === undefined) return [];
  const { node, nodes, store, up, degraded, lastLatencyMs, errors } = fleet;
  const failed = Object.entries(errors).filter(([, times]) => times > 0);
  const how = [
    up ? "answers" : "does not answer",
    ...(degraded ? ["this node decides alone"] : []),
    ...(lastLatencyMs === undefined ? [] : [`last decision in ${lastLatencyMs.toFixed(1)} ms`]),
    ...failed.map(([kind, times]) => `${count(times)} × ${shown(kind)}`),
  ];
  return [
    ["fleet", `node ${shown(node)} of ${count(nodes.length)}: ${nodes.map(shown).join(", ")}`],
    ["fleet store", `${shown(store)} ${how.join(", ")}`],
  ];
}

function ago(date: string, now: number): string {
  return span(now - Date.parse(date));
}

type Row<K extends "listeners" | "upstreams"> = Status[K][number];

const LISTENER: readonly Column<Row<"listeners">>[] = [
  { title: "ADDRESS", text: ({ address }) => shown(address), least: 10 },
  { title: "ONLY TO", text: ({ upstream }) => shown(upstream), least: 8 },
  { title: "ACCEPTED", text: ({ accepted }) => count(accepted), right: true },
  { title: "HANDSHAKING", text: ({ handshaking }) => count(handshaking), right: true, rank: 1 },
];

function openOf({ open, maxConnections: most }: Pick<TargetView, "open" | "maxConnections">): string {
  return most === undefined ? count(open) : `${count(open)} of ${count(most)}`;
}

const UPSTREAM: readonly Column<Row<"upstreams">>[] = [
  { title: "NAME", text: ({ name }) => shown(name), least: 8 },
  { title: "OPEN", text: openOf, right: true },
  { title: "ADMITTED", text: ({ admitted }) => count(admitted), right: true, rank: 1 },
  { title: "REFUSED", text: ({ refused }) => count(refused), right: true, rank: 2 },
  { title: "IN", text: ({ bytesIn }) => bytes(bytesIn), right: true, rank: 4 },
  { title: "OUT", text: ({ bytesOut }) => bytes(bytesOut), right: true, rank: 3 },
];

const TARGET: readonly Column<TargetView>[] = [
  { title: "UPSTREAM", text: ({ upstream }) => shown(upstream), least: 8 },
  { title: "TARGET", text: ({ target }) => shown(target), least: 10 },
  { title: "OPEN", text: openOf, right: true },
  { title: "HEALTH", text: ({ health, draining }) => shown(draining ? `${health}, draining` : health) },
  {
    title: "WEIGHT",
    text: ({ weight, backup }) => `${weight}${backup ? " backup" : ""}`,
    right: true,
    rank: 2,
  },
  { title: "FAILURES", text: ({ failures }) => count(failures), right: true, rank: 1 },
];

interface Refusals {
  readonly reason: string;
  readonly times: number;
}

function refusals(status: Status): Refusals[] {
  return Object.entries(status.refusals)
    .map(([reason, times]) => ({ reason, times }))
    .sort((a, b) => b.times - a.times);
}

const REFUSAL: readonly Column<Refusals>[] = [
  { title: "COUNT", text: ({ times }) => count(times), right: true },
  { title: "REASON", text: ({ reason }) => shown(reason) },
  { title: "MEANING", text: ({ reason }) => meaningOf("refused", reason), least: 10, rank: 1 },
];
