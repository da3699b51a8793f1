// Answers what is asked of a thread about its connections. Each answer takes a bounded time of the thread.

import type { Connection } from "../connection/connection.ts";
import { matcher } from "../connection/view.ts";
import { escapeInvisible } from "../lib/errors.ts";
import type { Answers, ClientUse, Question } from "./questions.ts";

/** @param connections of this thread, in the order of their numbers */
export function answer(
  question: Question,
  connections: ReadonlySet<Connection>,
  now: number,
): Answers[Question["about"]] {
  switch (question.about) {
    case "connections":
      return listed(question, connections, now);
    case "clients":
      return clients(connections);
  }
}

function listed(
  { filter, after, limit }: Question & { about: "connections" },
  connections: ReadonlySet<Connection>,
  now: number,
): Answers["connections"] {
  const matches = matcher(filter);
  let lines = "";
  let looked = 0;
  for (const connection of connections) {
    if (connection.number <= after) continue;
    if (looked++ === limit) return { lines, next: after };
    after = connection.number;
    const view = connection.view(now);
    if (view !== undefined && matches(view)) lines += `${escapeInvisible(JSON.stringify(view))}\n`;
  }
  return { lines, next: undefined };
}

/** Scrapes ask for these: some milliseconds for 10,000 connections. */
function clients(connections: ReadonlySet<Connection>): ClientUse[] {
  const found = new Map<string, { client: string; open: number; bytesIn: number; bytesOut: number }>();
  for (const { use } of connections) {
    if (use === undefined) continue;
    const { client, bytesIn, bytesOut } = use;
    let sum = found.get(client);
    if (sum === undefined) found.set(client, (sum = { client, open: 0, bytesIn: 0, bytesOut: 0 }));
    sum.open++;
    sum.bytesIn += bytesIn;
    sum.bytesOut += bytesOut;
  }
  return [...found.values()];
}
