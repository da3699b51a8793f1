// `GET /v1/events`: each log line as it happens, as server-sent events (HTML Living Standard, section 9.2). With `?status`
// the state once a second too. A reader that is slow loses lines, and is told how many; one that stalls is dropped.

import { Backlog } from "../lib/backlog.ts";
import { escapeInvisible } from "../lib/errors.ts";
import type { LogEvent } from "../lib/events.ts";
import type { LoggedEvent } from "./api-types.ts";
import { Refused, type Answer, type Call, type Output, type Right } from "./route.ts";
import { statusOf } from "./status.ts";
import type { Subject } from "./subject.ts";

/** The most bytes that wait for one reader. */
const MAX_WAITING = 256 * 1_024;

const STATUS_MS = 1_000;
/** How often something is sent where nothing happens: it shows that both ends are there. */
const COMMENT_MS = 10_000;

export function events({ subject, query, right }: Call): Answer {
  const status = query.get("status");
  if (status !== undefined && status !== "") throw new Refused(400, "status takes no value");
  return {
    status: 200,
    headers: { "content-type": "text/event-stream; charset=utf-8" },
    body: (output) => follow(subject, status === undefined ? undefined : right, output),
  };
}

/** @param right of the one who asked for the state too; undefined for one who did not */
function follow(subject: Subject, right: Right | undefined, output: Output): void {
  const dropped = (count: number) => message("dropped", { count });
  const backlog: Backlog = new Backlog(
    (text) => {
      if (output.write(text)) return true;
      void output.drained().then((there) => there && backlog.drained());
      return false;
    },
    dropped,
    MAX_WAITING,
  );
  const sendStatus = (of: Right) => backlog.empty && backlog.write(message("status", statusOf(subject, of)));
  const unsubscribe = subject.events.subscribe((event) => backlog.write(message("log", logged(event))));
  const comments = setInterval(() => backlog.empty && backlog.write(":\n\n"), COMMENT_MS);
  const statuses = right && setInterval(() => sendStatus(right), STATUS_MS);
  output.onClose(() => {
    unsubscribe();
    clearInterval(comments);
    clearInterval(statuses);
  });
  // The first bytes tell the reader that it is connected.
  backlog.write(":\n\n");
  if (right) sendStatus(right);
}

function logged({ at, level, msg, fields }: LogEvent): LoggedEvent {
  return { time: new Date(at).toISOString(), level, msg, ...fields };
}

/** JSON has no line feeds, so that a value cannot end its message. */
function message(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${escapeInvisible(JSON.stringify(data))}\n\n`;
}
