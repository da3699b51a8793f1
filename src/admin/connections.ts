// `GET /v1/connections`: a JSON object a line, for each open connection. The threads are asked for so many at a time, and for
// more only when the reader has taken those: nothing is collected, and live traffic goes on in between.

import type { ConnectionFilter } from "../connection/view.ts";
import type { Answers, Question } from "../engine/questions.ts";
import { parseRange } from "../lib/source.ts";
import { Refused, type Answer, type Call, type Output } from "./route.ts";
import type { Subject } from "./subject.ts";
import { answered, threadsOf } from "./threads.ts";

/** The keys of the query. */
export const FILTERS = ["id", "client", "group", "upstream", "target", "from"] as const;

/** Connections that a thread is asked for at a time: about a millisecond of its time. */
const BATCH = 500;

export function connections({ subject, query }: Call): Answer {
  const filter: ConnectionFilter = Object.fromEntries(query);
  if (filter.from !== undefined && parseRange(filter.from) === undefined) {
    throw new Refused(400, "from is an address or a range, such as 10.0.0.0/8");
  }
  return {
    status: 200,
    headers: { "content-type": "application/x-ndjson; charset=utf-8" },
    body: (output) => send(subject, filter, output),
  };
}

async function send(subject: Subject, filter: ConnectionFilter, output: Output): Promise<void> {
  for (const thread of threadsOf(subject)) {
    for (let after: number | undefined = 0; after !== undefined;) {
      const question: Question & { about: "connections" } = {
        about: "connections",
        filter,
        after,
        limit: BATCH,
      };
      const answer: Answers["connections"] | undefined | "late" = await answered(
        subject.runner.askThread(thread, question),
      );
      if (output.closed) return;
      // A list that lacks a thread's connections must not look like a whole one.
      if (answer === "late") return output.abort();
      // A thread that has died has no connections any more.
      if (answer === undefined) break;
      if (answer.lines !== "" && !output.write(answer.lines) && !(await output.drained())) return;
      after = answer.next;
      // Where the connections are this thread's own, they have their turn.
      await new Promise(setImmediate);
    }
  }
  output.end();
}
