// `proxy clients`: who has connections open, and how near its limits each client is; with --fleet on which node.

import type { ClientCounts, ClientView } from "../admin/api-types.ts";
import { AdminClient, CLIENT_EXIT_CODES, CLIENT_FLAGS, LOOK } from "./admin-client.ts";
import { DONE, type Command } from "./command.ts";
import { fitGrid, gridLine, gridTitle, type Column } from "./grid.ts";
import { bytes, count, shown } from "./human.ts";
import { jsonLine, outputWidth, printLines } from "./output.ts";

export const clients: Command = {
  usage: "clients [FLAGS]",
  summary: "List clients with open connections, those nearest to a limit first",
  group: LOOK,
  flags: {
    fleet: { type: "boolean", description: "of all nodes of the fleet: who has how many connections where" },
    ...CLIENT_FLAGS,
  },
  examples: ["clients", "clients --fleet --json"],
  exitCodes: CLIENT_EXIT_CODES,
  notes:
    "OPEN and TOKENS are this proxy's own counts, and the limits beside them. With --fleet the numbers are what the nodes have written to the store: they are at most a heartbeat old, and names are cut to 255 characters.",
  async run({ flags, switches }) {
    const client = await AdminClient.find(flags);
    const lines = switches.has("fleet")
      ? listed(await fleetClients(client), FLEET, switches)
      : listed((await client.get<{ clients: ClientView[] }>("/v1/clients")).clients, OWN, switches);
    await printLines(lines);
    return DONE;
  },
};

/** What the store knows. @throws CommandError */
export async function fleetClients(client: AdminClient): Promise<ClientCounts[]> {
  return (await client.get<{ clients: ClientCounts[] }>("/v1/clients", { fleet: "" })).clients;
}

/** A row as JSON, or as a line of a table. */
export function listed<T extends object>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  switches: ReadonlySet<string>,
): string[] {
  if (switches.has("json")) return rows.map(jsonLine);
  const grid = fitGrid(columns, rows, outputWidth());
  return [gridTitle(grid), ...rows.map((row) => gridLine(grid, row))];
}

const NAME = { title: "CLIENT", cut: "middle", least: 8 } as const;

const of = (number: number | undefined, most: number | undefined) =>
  `${number === undefined ? "-" : count(number)}${most === undefined ? "" : ` of ${count(most)}`}`;

const OWN: readonly Column<ClientView>[] = [
  { ...NAME, text: ({ client }) => shown(client) },
  { title: "OPEN", text: ({ open, maxConnections }) => of(open, maxConnections), right: true },
  { title: "TOKENS", text: ({ tokens, capacity }) => of(tokens, capacity), right: true },
  { title: "IN", text: ({ bytesIn }) => bytes(bytesIn), right: true, rank: 1 },
  { title: "OUT", text: ({ bytesOut }) => bytes(bytesOut), right: true, rank: 2 },
];

const FLEET: readonly Column<ClientCounts>[] = [
  { ...NAME, text: ({ client }) => shown(client) },
  { title: "OPEN", text: ({ total }) => count(total), right: true },
  {
    title: "NODES",
    text: ({ open }) =>
      Object.entries(open)
        .map(([node, number]) => `${shown(node)} ${count(number)}`)
        .join(", "),
    least: 10,
  },
];
