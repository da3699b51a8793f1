// `proxy ps`: open connections, a line each, as they come from the running proxy.

import type { ConnectionView } from "../admin/api-types.ts";
import { parseRange } from "../lib/source.ts";
import { quote } from "../lib/errors.ts";
import { AdminClient, CLIENT_EXIT_CODES, CLIENT_FLAGS, LOOK } from "./admin-client.ts";
import { fleetClients, listed } from "./clients.ts";
import { DONE, type Command } from "./command.ts";
import { CONNECTION, VIA, certificateColumn } from "./connection-columns.ts";
import { UsageError, type Flag, type FlagValues } from "./flags.ts";
import { fitGrid, fits, gridLine, gridTitle, type Column, type Grid } from "./grid.ts";
import { count, shown } from "./human.ts";
import { jsonLine, outputWidth, printLines } from "./output.ts";

/** Flags that choose connections. */
export const FILTER_FLAGS = {
  client: { type: "string", valueHint: "NAME", description: "only of this client, such as alice@dba" },
  group: { type: "string", valueHint: "GROUP", description: "only of clients of this group" },
  upstream: { type: "string", valueHint: "NAME", description: "only to this upstream" },
  target: {
    type: "string",
    valueHint: "HOST:PORT",
    description: "only to this target, as the configuration writes it",
  },
  from: {
    type: "string",
    valueHint: "RANGE",
    description: "only from this address or range, such as 10.0.0.0/8",
  },
} as const satisfies Record<string, Flag>;

/** What the filter's flags ask for. @throws UsageError */
export function filterOf(flags: FlagValues): Record<keyof typeof FILTER_FLAGS, string | undefined> {
  const { client, group, upstream, target, from } = flags;
  if (from !== undefined && parseRange(from) === undefined) {
    throw new UsageError(`--from: ${quote(from)} is no address and no range; write it like "10.0.0.0/8"`);
  }
  return { client, group, upstream, target, from };
}

/** So many connections are waited for to choose the columns' widths by. */
const SAMPLE = 1_000;

export const ps: Command = {
  usage: "ps [FLAGS]",
  summary: "List open connections: who, from where, to what, how long, how much",
  group: LOOK,
  flags: {
    ...FILTER_FLAGS,
    fleet: {
      type: "boolean",
      description: "of all nodes of the fleet: clients' counts by node, from the store",
    },
    ...CLIENT_FLAGS,
  },
  examples: ["ps", "ps --client alice@dba --json"],
  exitCodes: CLIENT_EXIT_CODES,
  notes:
    "TO is the upstream and its target. IN counts bytes from the client, OUT bytes to the client. CERT is how long the client's certificate is still valid, VIA the balancer that has named the client's address. Columns for which there is no room are left out, and long names are cut: a wider terminal, COLUMNS or --json shows all. The store of a fleet knows counts, not connections: --fleet lists for each client how many it has on each node, at most a heartbeat old, and goes with --client and --group only.",
  async run({ flags, switches }) {
    const filter = filterOf(flags);
    const client = await AdminClient.find(flags);
    if (switches.has("fleet")) {
      await printLines(listed(await onNodes(client, filter), NODES, switches));
      return DONE;
    }
    const connections = client.objects<ConnectionView>("/v1/connections", filter);
    await printLines(
      switches.has("json") ? asJson(connections) : table(connections, outputWidth(), Date.now()),
    );
    return DONE;
  },
};

/** A client's connections on one node. */
interface OnNode {
  readonly client: string;
  readonly node: string;
  readonly open: number;
}

const NODES: readonly Column<OnNode>[] = [
  { title: "CLIENT", text: ({ client }) => shown(client), cut: "middle", least: 8 },
  { title: "NODE", text: ({ node }) => shown(node), least: 8 },
  { title: "OPEN", text: ({ open }) => count(open), right: true },
];

async function onNodes(admin: AdminClient, filter: ReturnType<typeof filterOf>): Promise<OnNode[]> {
  const unknown = (["upstream", "target", "from"] as const).find((name) => filter[name] !== undefined);
  if (unknown !== undefined)
    throw new UsageError(`--${unknown} does not go with --fleet: the store knows counts only`);
  const { client, group } = filter;
  const isAsked = (name: string) =>
    (client === undefined || name === client) && (group === undefined || name.endsWith(`@${group}`));
  return (await fleetClients(admin))
    .filter((each) => isAsked(each.client))
    .flatMap((each) =>
      Object.entries(each.open).map(([node, open]) => ({ client: each.client, node, open })),
    );
}

async function* asJson(objects: AsyncIterable<object>): AsyncGenerator<string> {
  for await (const object of objects) yield jsonLine(object);
}

async function* table(
  connections: AsyncIterable<ConnectionView>,
  width: number,
  now: number,
): AsyncGenerator<string> {
  const all = [...Object.values(CONNECTION), certificateColumn(now)];
  const first: ConnectionView[] = [];
  let columns: readonly Column<ConnectionView>[] = all;
  let grid: Grid<ConnectionView> | undefined;
  const begin = function* () {
    if (first.some(({ peer }) => peer !== undefined)) columns = [...all, VIA];
    grid = fitGrid(columns, first, width);
    yield gridTitle(grid);
    for (const each of first) yield gridLine(grid, each);
  };
  for await (const connection of connections) {
    if (grid === undefined) {
      if (first.push(connection) === SAMPLE) yield* begin();
      continue;
    }
    // Its numbers are longer: from here on the columns stand elsewhere.
    if (!fits(grid, connection)) grid = fitGrid(columns, [...first, connection], width);
    yield gridLine(grid, connection);
  }
  if (grid === undefined) yield* begin();
}
