// `proxy top`: the running proxy and its busiest connections, on a screen that redraws in place.

import type { ConnectionView, Status } from "../admin/api-types.ts";
import { parseDuration } from "../lib/duration.ts";
import { quote } from "../lib/errors.ts";
import { AdminClient, CLIENT_EXIT_CODES, CLIENT_FLAGS, LOOK } from "./admin-client.ts";
import { DONE, type Command } from "./command.ts";
import { UsageError, choose } from "./flags.ts";
import { jsonLine, printLines } from "./output.ts";
import { Screen, hasTerminal } from "./screen.ts";
import { onFirstStop } from "./signals.ts";
import { SORT_NAMES, frame, sorted, viewOf, type Look, type Sort, type View } from "./top-frame.ts";

/** Between two looks passes so many times the time that a look takes: the proxy has other work. */
const LOOK_SHARE = 5;

/** The most connections that `--json` prints at a time. */
const JSON_ROWS = 100;

export const top: Command = {
  usage: "top [FLAGS]",
  summary: "Show its connections on a live screen, sorted by what they do",
  group: LOOK,
  flags: {
    sort: {
      type: "string",
      valueHint: "KEY",
      description: `what comes first: ${SORT_NAMES.join(", ")}; their first letters are keys`,
      builtIn: "rate",
    },
    interval: {
      type: "string",
      valueHint: "DURATION",
      description: "how often it looks, or less often where there are many connections",
      builtIn: "1s",
    },
    ...CLIENT_FLAGS,
  },
  examples: ["top", "top --sort idle"],
  signals: [["SIGTERM, SIGINT, SIGQUIT", "stop, exit code 0"]],
  exitCodes: CLIENT_EXIT_CODES,
  notes: `The keys c, a, i, b and r sort by client, age, idle time, bytes and rate; q or Ctrl-C leaves. --json needs no terminal: it prints one object at each look, with the first ${JSON_ROWS} connections.`,
  async run({ flags, switches }) {
    const sort = choose("sort", flags["sort"], SORT_NAMES) ?? "rate";
    const { interval = "1s" } = flags;
    const intervalMs = parseDuration(interval);
    if (intervalMs === undefined) {
      throw new UsageError(`--interval: ${quote(interval)} is not a duration; write it like "1s" or "500ms"`);
    }
    const asJson = switches.has("json");
    if (!asJson && !hasTerminal()) {
      throw new UsageError('top needs a terminal; use "proxy ps", or "proxy top --json"');
    }
    const stop = new AbortController();
    void onFirstStop().then(() => stop.abort());
    const views = looks(await AdminClient.find(flags), intervalMs, stop.signal);
    await (asJson ? printLines(jsonViews(views, sort), { live: true }) : show(views, sort, stop));
    return DONE;
  },
};

/** Looks until the signal. @throws CommandError where the proxy does not answer any more */
async function* looks(client: AdminClient, intervalMs: number, signal: AbortSignal): AsyncGenerator<View> {
  const stopped = new Promise<undefined>((resolve) =>
    signal.addEventListener("abort", () => resolve(undefined)),
  );
  let before: Look | undefined;
  while (!signal.aborted) {
    const began = performance.now();
    const look = await Promise.race([takeLook(client), stopped]);
    if (look === undefined) return;
    yield viewOf(look, before);
    before = look;
    const took = performance.now() - began;
    await Promise.race([Bun.sleep(Math.max(intervalMs - took, took * LOOK_SHARE)), stopped]);
  }
}

async function takeLook(client: AdminClient): Promise<Look> {
  const listed = Array.fromAsync(client.objects<ConnectionView>("/v1/connections"));
  const [status, connections] = await Promise.all([client.get<Status>("/v1/status"), listed]);
  return { at: performance.now(), status, connections };
}

async function* jsonViews(views: AsyncIterable<View>, sort: Sort): AsyncGenerator<string> {
  for await (const { status, rates, rows } of views) {
    const { open, limit } = status.connections;
    const connections = sorted(rows, sort).slice(0, JSON_ROWS);
    yield jsonLine({ time: new Date().toISOString(), open, limit, perSecond: rates, connections });
  }
}

async function show(views: AsyncIterable<View>, sort: Sort, stop: AbortController): Promise<void> {
  let view: View | undefined;
  const draw = () => {
    if (view !== undefined) screen.draw(frame(view, sort, screen));
  };
  // First the look: where no proxy answers, the screen stays as it is.
  const looking = views[Symbol.asyncIterator]();
  const first = await looking.next();
  if (first.done) return;
  view = first.value;
  using screen = new Screen({
    key(key) {
      if (key === "q" || key === "\x03") return stop.abort();
      const chosen = SORT_NAMES.find((name) => name.startsWith(key));
      if (chosen === undefined) return;
      sort = chosen;
      draw();
    },
    resized: draw,
    gone: () => stop.abort(),
  });
  draw();
  for (;;) {
    const next = await looking.next();
    if (next.done) return;
    view = next.value;
    draw();
  }
}
