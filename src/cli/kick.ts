// `proxy kick`: ends connections of a running proxy. It takes no right away.

import { AdminClient, CHANGE, CLIENT_EXIT_CODES, CLIENT_FLAGS } from "./admin-client.ts";
import { CommandError, DONE, type Command } from "./command.ts";
import { UsageError } from "./flags.ts";
import { jsonLine, printLines } from "./output.ts";
import { FILTER_FLAGS, filterOf } from "./ps.ts";

interface Kicked {
  readonly kicked: readonly string[];
  readonly missing: readonly string[];
}

export const kick: Command = {
  usage: "kick [ID…] [FLAGS]",
  summary: "End connections; their clients may connect again",
  group: CHANGE,
  words: { name: "ID", description: 'ids of connections, as "proxy ps" prints them', most: 1_000 },
  flags: {
    ...FILTER_FLAGS,
    grace: {
      type: "string",
      valueHint: "DURATION",
      description: "end them over this time, each at a moment by chance",
      builtIn: "at once",
    },
    reason: { type: "string", valueHint: "TEXT", description: "why, for the log" },
    "dry-run": { type: "boolean", description: "end none; say which ones it would be" },
    ...CLIENT_FLAGS,
  },
  examples: ["kick k3f9-12c", "kick --group etl --grace 30s --reason maintenance"],
  exitCodes: CLIENT_EXIT_CODES,
  async run({ flags, switches, words }) {
    const filter = filterOf(flags);
    if (words.length === 0 && Object.values(filter).every((value) => value === undefined)) {
      throw new UsageError(
        "say which connections: their ids, or --client, --group, --upstream, --target, --from",
      );
    }
    const dryRun = switches.has("dry-run");
    const { grace, reason } = flags;
    const ids = words.length === 0 ? undefined : words;
    const client = await AdminClient.find(flags);
    const body = { ids, ...filter, grace, reason, dryRun };
    const answer = await client.change<Kicked>("/v1/kick", { method: "POST", body });
    const { kicked, missing } = answer;
    if (switches.has("json")) await printLines([jsonLine(answer)]);
    else {
      const verb = dryRun ? "would end" : grace === undefined ? "ended" : `end within ${grace}:`;
      const count = `${verb} ${kicked.length} connection${kicked.length === 1 ? "" : "s"}`;
      await printLines(kicked.length === 0 ? [] : dryRun ? [...kicked, count] : [count]);
    }
    if (missing.length > 0) throw new CommandError(`not open: ${missing.join(", ")}`);
    if (kicked.length === 0) throw new CommandError("no open connection matches");
    return DONE;
  },
};
