// `proxy replay`: asks a configuration what it would have said to the clients in a log.

import { MAX_CLIENTS } from "../engine/snapshot.ts";
import { Replay } from "../engine/replay.ts";
import { cannotRead, escapeInvisible, quote } from "../lib/errors.ts";
import { linesOf } from "../lib/line-stream.ts";
import { createLogger } from "../lib/log.ts";
import { Ledger } from "../state/ledger.ts";
import { DONE, MISUSED, print, type Command } from "./command.ts";
import { FLAGS, UsageError } from "./flags.ts";
import { openProxy } from "./open.ts";
import { replayText } from "./replay-text.ts";

/** Exit code: somebody would be refused. */
const REFUSED = 3;

/** After so many lines without one of a JSON log, the rest is not read. */
const MAX_FOREIGN_LINES = 100;

export const replay: Command = {
  usage: "replay --config FILE LOG",
  summary: "Ask a configuration which clients of a log it would refuse or let in",
  words: {
    name: "LOG",
    description: 'a log in JSON, with lines "admitted", "closed" or "refused"; "-" is standard input',
    most: 1,
  },
  flags: {
    config: FLAGS.config,
    json: { type: "boolean", description: "print one JSON object" },
  },
  examples: ["replay --config next.toml /var/log/tcpproxy.log", "replay --config next.toml - < tcpproxy.log"],
  exitCodes: [
    [String(DONE), "no admission would be refused"],
    [String(MISUSED), "the command line, the configuration or the log is wrong"],
    [String(REFUSED), "some would be refused"],
  ],
  notes:
    'It decides from the identity on, because a log has no certificates. Buckets and open connections run by the log\'s own clock, from lines "admitted" (log.admissions = true) to lines "closed".',
  async run({ flags, switches, words: [log] }) {
    if (flags["config"] === undefined)
      throw new UsageError("--config is missing; it names the configuration to ask");
    if (log === undefined) throw new UsageError('the log is missing; give a file, or "-" for standard input');
    const { proxy } = await openProxy({ config: flags["config"] }, createLogger({ level: "silent" }));
    const asked = new Replay(proxy.config, Ledger.make({ workers: 1, targets: 1, clients: MAX_CLIENTS }));
    await feed(asked, log);
    const result = asked.result();
    print(switches.has("json") ? escapeInvisible(JSON.stringify(result)) : replayText(result));
    return result.refused > 0 ? REFUSED : DONE;
  },
};

/** @throws UsageError if it cannot be read, or is no such log */
async function feed(asked: Replay, log: string): Promise<void> {
  const name = log === "-" ? "standard input" : quote(log);
  let known = 0;
  let foreign = 0;
  try {
    const stream = log === "-" ? Bun.stdin.stream() : Bun.file(log).stream();
    for await (const lines of linesOf(stream as unknown as AsyncIterable<Uint8Array>)) {
      for (const line of lines) {
        if (asked.add(line)) known++;
        else if (line.trim() !== "") foreign++;
      }
      if (known === 0 && foreign >= MAX_FOREIGN_LINES) break;
    }
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${name} ${cannotRead(error)}`);
  }
  if (known === 0) {
    throw new UsageError(`${name} is no log in JSON; the proxy writes one with --log-format json`);
  }
  const { admissions, refusals } = asked.result();
  if (admissions + refusals === 0) {
    throw new UsageError(`${name} has no lines "admitted", "closed" or "refused" of a known client`);
  }
}
