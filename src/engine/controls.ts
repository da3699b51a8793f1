// What operators do to the connections of a thread: end some of them, or block who may not come in any more. Both go
// through all connections in portions, so that those which stay are not held up.

import { Blocks } from "../auth/blocks.ts";
import type { Connection, Shared } from "../connection/connection.ts";
import { matcher } from "../connection/view.ts";
import type { Answers, Question } from "./questions.ts";

/** How many connections are looked at, and how many of those ended, in one turn of the event loop. */
const LOOK_BATCH = 2_000;
const END_BATCH = 20;

/** How long to wait for sockets that are closing, in milliseconds. */
const GONE_WAIT_MS = 2_000;

export async function kick(
  { filter, ids, grace, why, dryRun }: Question & { about: "kick" },
  { connections, now }: Shared,
): Promise<Answers["kick"]> {
  const matches = matcher(filter);
  const wanted = ids && new Set(ids);
  const kicked: { id: string; connection: Connection }[] = [];
  await inBatches(connections, (connection) => {
    const view = connection.view(now());
    if (view === undefined || !(wanted?.has(view.id) ?? true) || !matches(view)) return false;
    const at = grace === 0 ? -1 : now() + grace * Math.random();
    if (!dryRun && !connection.kick(at, why)) return false;
    kicked.push({ id: view.id, connection });
    return !dryRun;
  });
  if (!dryRun && grace === 0) {
    await gone(
      kicked.map(({ connection }) => connection),
      connections,
    );
  }
  return { ids: kicked.map(({ id }) => id) };
}

export async function block(
  { blocks: list }: Question & { about: "block" },
  shared: Shared,
): Promise<Answers["block"]> {
  const blocks = new Blocks(list);
  // From here on every decision of this thread knows of them, those on handshakes that are under way included.
  shared.rules = { ...shared.rules, blocks };
  const closed: Connection[] = [];
  await inBatches(shared.connections, (connection) => {
    if (!connection.closeIfBlocked(blocks, Date.now())) return false;
    closed.push(connection);
    return true;
  });
  await gone(closed, shared.connections);
  return { closed: closed.length };
}

/** @param end looks at a connection, and answers whether it ended it, which takes longer */
async function inBatches(
  connections: ReadonlySet<Connection>,
  end: (connection: Connection) => boolean,
): Promise<void> {
  let looked = 0;
  let ended = 0;
  for (const connection of [...connections]) {
    if (end(connection)) ended++;
    if (++looked < LOOK_BATCH && ended < END_BATCH) continue;
    looked = ended = 0;
    await new Promise(setImmediate);
  }
}

/** Waits until what was ended has given back what it held. */
async function gone(ended: readonly Connection[], connections: ReadonlySet<Connection>): Promise<void> {
  const until = performance.now() + GONE_WAIT_MS;
  for (const connection of ended) {
    while (connections.has(connection) && performance.now() < until) await new Promise(setImmediate);
  }
}
