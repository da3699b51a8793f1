// Answers what is asked of a thread about its connections. Each answer takes a bounded time of the thread at a stretch.

import type { Connection, Shared } from "../connection/connection.ts";
import { block, kick } from "./controls.ts";
import { matcher } from "../connection/view.ts";
import { escapeInvisible } from "../lib/errors.ts";
import type { Answers, ClientUse, Question } from "./questions.ts";

export function answer(
  question: Exclude<Question, { about: "forecast" }>,
  shared: Shared,
): Answers[Question["about"]] | Promise<Answers[Question["about"]]> {
  const { connections, now } = shared;
  switch (question.about) {
    case "connections":
      return listed(question, connections, now());
    case "clients":
      return clients(connections);
    case "kick":
      return kick(question, shared);
    case "block":
      return block(question, shared);
    case "life":
      return true;
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
  for (const connection of connections) {
    const use = connection.use();
    if (use === undefined) continue;
    const { client, bytesIn, bytesOut } = use;
    let all = found.get(client);
    if (all === undefined) found.set(client, (all = { client, open: 0, bytesIn: 0, bytesOut: 0 }));
    all.open++;
    all.bytesIn += bytesIn;
    all.bytesOut += bytesOut;
  }
  return [...found.values()];
}
