// `proxy tail`: what happens in the running proxy, a line each.

import type { LoggedEvent } from "../admin/api-types.ts";
import { AdminClient, CLIENT_EXIT_CODES, CLIENT_FLAGS, LOOK, type Happening } from "./admin-client.ts";
import { DONE, type Command } from "./command.ts";
import { eventLines } from "./event-line.ts";
import { jsonLine, outputWidth, printLines } from "./output.ts";
import { onFirstStop } from "./signals.ts";

export const tail: Command = {
  usage: "tail [FLAGS]",
  summary: "Print refusals and ends as they happen, with the reason's meaning",
  group: LOOK,
  flags: CLIENT_FLAGS,
  examples: ["tail", "tail --json"],
  signals: [["SIGTERM, SIGINT, SIGQUIT", "stop, exit code 0"]],
  exitCodes: CLIENT_EXIT_CODES,
  notes:
    "It goes on until a signal stops it or the proxy goes away. Lines are cut to the terminal; --json prints all.",
  async run({ flags, switches }) {
    const client = await AdminClient.find(flags);
    const stop = new AbortController();
    void onFirstStop().then(() => stop.abort());
    // The status that comes each second shows that the proxy is still there.
    const events = client.events<LoggedEvent>("/v1/events", { status: "" }, stop.signal);
    await printLines(logged(events, switches.has("json")), { live: true });
    return DONE;
  },
};

/** The proxy says so, with a count, to a reader that is too slow for all that happens. */
const DROPPED = { level: "warn", msg: "events dropped: they came faster than they were read" };

async function* logged(
  events: AsyncIterable<Happening<LoggedEvent>>,
  asJson: boolean,
): AsyncGenerator<string> {
  for await (const { name, data } of events) {
    const event = name === "dropped" ? { ...data, ...DROPPED, time: new Date().toISOString() } : data;
    if (name === "status") continue;
    if (asJson) yield jsonLine(event);
    else yield* eventLines(event, outputWidth());
  }
}
