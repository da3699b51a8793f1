// `proxy drain`, `proxy ready`, `proxy weight`: changes a target of a running proxy, over the configuration.

import { AdminClient, CHANGE, CLIENT_EXIT_CODES, CLIENT_FLAGS } from "./admin-client.ts";
import { DONE, type Command, type Given } from "./command.ts";
import { UsageError } from "./flags.ts";
import { jsonLine, printLines } from "./output.ts";

interface Changed {
  readonly upstream: string;
  readonly target: string;
  readonly draining: boolean;
  readonly weight: number;
  readonly kept: boolean;
}

const TARGET = "an upstream's name, then the target as the configuration writes it";

export const drain: Command = {
  usage: "drain UPSTREAM TARGET [FLAGS]",
  summary: "Send a target no new connections; open ones go on",
  group: CHANGE,
  words: { name: "UPSTREAM TARGET", description: TARGET, most: 2 },
  flags: CLIENT_FLAGS,
  examples: ["drain orders 10.0.0.5:5432"],
  exitCodes: CLIENT_EXIT_CODES,
  notes: 'It lasts over reloads, until "proxy ready".',
  run: (given) => change(given, { draining: true }),
};

export const ready: Command = {
  usage: "ready UPSTREAM TARGET [FLAGS]",
  summary: "Send a target connections again",
  group: CHANGE,
  words: { name: "UPSTREAM TARGET", description: TARGET, most: 2 },
  flags: CLIENT_FLAGS,
  examples: ["ready orders 10.0.0.5:5432"],
  exitCodes: CLIENT_EXIT_CODES,
  run: (given) => change(given, { draining: false }),
};

export const weight: Command = {
  usage: "weight UPSTREAM TARGET N [FLAGS]",
  summary: "Change a target's share of connections",
  group: CHANGE,
  words: {
    name: "UPSTREAM TARGET N",
    description: `${TARGET}, then its weight from 1 to 1000, or "configured"`,
    most: 3,
  },
  flags: CLIENT_FLAGS,
  examples: ["weight orders 10.0.0.5:5432 3", "weight orders 10.0.0.5:5432 configured"],
  exitCodes: CLIENT_EXIT_CODES,
  notes: "It lasts over reloads until the configuration has another weight for the target.",
  run(given) {
    const text = given.words[2];
    if (text === "configured") return change(given, { weight: null });
    if (text !== undefined && !/^[1-9]\d{0,3}$/.test(text)) {
      throw new UsageError('a weight is a whole number from 1 to 1000, or "configured"');
    }
    if (text === undefined) throw new UsageError(`say which target and which weight: ${TARGET}, then N`);
    return change(given, { weight: Number(text) });
  },
};

async function change({ flags, switches, words }: Given, what: object): Promise<number> {
  const [upstream, target] = words;
  if (upstream === undefined || target === undefined) throw new UsageError(`say which target: ${TARGET}`);
  const client = await AdminClient.find(flags);
  const body = { upstream, target, ...what };
  const now = await client.change<Changed>("/v1/targets", { method: "PATCH", body });
  const text = `${now.upstream} ${now.target}: ${now.draining ? "draining" : "takes connections"}, weight ${now.weight}`;
  const note = now.kept ? [] : ["note: a restart forgets it: admin.stateDirectory is not configured"];
  await printLines(switches.has("json") ? [jsonLine(now)] : [text, ...note]);
  return DONE;
}
