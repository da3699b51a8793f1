// `proxy block`, `proxy unblock`, `proxy blocks`: who may not come in, whatever the configuration says.

import type { BlockView } from "../admin/api-types.ts";
import { AdminClient, CHANGE, CLIENT_EXIT_CODES, CLIENT_FLAGS, LOOK, type Change } from "./admin-client.ts";
import { DONE, type Command } from "./command.ts";
import { UsageError } from "./flags.ts";
import { fitGrid, gridLine, gridTitle, type Column } from "./grid.ts";
import { shown, timeLeft } from "./human.ts";
import { jsonLine, outputWidth, printLines } from "./output.ts";

const SUBJECT = {
  name: "WHO",
  description: "alice@dba, *@dba, sha256:FINGERPRINT of a certificate, or a range such as 10.0.0.0/8",
  most: 1,
};

const NOT_KEPT = "it ends with the proxy's process: admin.stateDirectory is not configured";

const NOT_PUBLISHED =
  "the other proxies do not know yet: the fleet's store does not answer; it is told when it is back";

const FLEET = {
  fleet: { type: "boolean", description: "in all proxies of the fleet, through its store" },
} as const;

interface Blocked {
  readonly block: BlockView;
  readonly closed: number;
  readonly kept: boolean;
}

export const block: Command = {
  usage: "block WHO [FLAGS]",
  summary: "Shut out a client, a group, a certificate or a network, at once",
  group: CHANGE,
  words: SUBJECT,
  flags: {
    for: { type: "string", valueHint: "DURATION", description: "how long", builtIn: "until it is unblocked" },
    reason: { type: "string", valueHint: "TEXT", description: "why, for the log and for colleagues" },
    ...FLEET,
    ...CLIENT_FLAGS,
  },
  examples: [
    "block alice@dba --for 8h --reason 'lost laptop'",
    "block 10.1.0.0/16",
    "block alice@dba --fleet",
  ],
  exitCodes: CLIENT_EXIT_CODES,
  notes:
    "When the command returns, nobody blocked is connected and nobody blocked can get in. Blocks only take rights away; they last over reloads. With --fleet the same holds here when the command returns, and in the other proxies at their next heartbeat at the latest; a store that does not answer is told when it is back.",
  async run({ flags, switches, words: [subject] }) {
    const client = await AdminClient.find(flags);
    const body = {
      subject: required(subject),
      for: flags["for"],
      reason: flags["reason"],
      fleet: switches.has("fleet"),
    };
    const answer = await client.change<Blocked>("/v1/blocks", { method: "PUT", body });
    const { block: made, closed, kept } = answer;
    const until = made.until === undefined ? "until it is unblocked" : `until ${made.until}`;
    const notes = [...(kept ? [] : [NOT_KEPT]), ...(made.published === false ? [NOT_PUBLISHED] : [])].map(
      (note) => `note: ${note}`,
    );
    const text = `blocked ${shown(made.subject)} ${made.fleet ? "in the fleet " : ""}${until}; closed ${closed} connection${closed === 1 ? "" : "s"}`;
    await printLines(switches.has("json") ? [jsonLine(answer)] : [text, ...notes]);
    return DONE;
  },
};

export const unblock: Command = {
  usage: "unblock WHO [FLAGS]",
  summary: "End a block",
  group: CHANGE,
  words: SUBJECT,
  flags: { ...FLEET, ...CLIENT_FLAGS },
  examples: ["unblock alice@dba", "unblock alice@dba --fleet"],
  exitCodes: CLIENT_EXIT_CODES,
  notes: "A block of the fleet ends with --fleet only, and while the store answers.",
  async run({ flags, switches, words: [subject] }) {
    const client = await AdminClient.find(flags);
    const change: Change = {
      method: "DELETE",
      body: { subject: required(subject), fleet: switches.has("fleet") },
    };
    const answer = await client.change<{ block: BlockView; still?: BlockView }>("/v1/blocks", change);
    const { block: ended, still } = answer;
    const text = `unblocked ${shown(ended.subject)}${ended.fleet ? " in the fleet" : ""}`;
    const note = still?.fleet ? "the fleet still blocks it" : "this proxy alone still blocks it";
    const lines = still === undefined ? [text] : [text, `note: ${note}`];
    await printLines(switches.has("json") ? [jsonLine(answer)] : lines);
    return DONE;
  },
};

export const blocks: Command = {
  usage: "blocks [FLAGS]",
  summary: "List who is blocked, by whom, why and until when",
  group: LOOK,
  flags: CLIENT_FLAGS,
  examples: ["blocks"],
  exitCodes: CLIENT_EXIT_CODES,
  async run({ flags, switches }) {
    const client = await AdminClient.find(flags);
    const { blocks: all, kept } = await client.get<{ blocks: BlockView[]; kept: boolean }>("/v1/blocks");
    if (switches.has("json")) await printLines(all.map(jsonLine));
    else if (all.length === 0) await printLines(["nobody is blocked"]);
    else {
      const grid = fitGrid(
        columns(
          Date.now(),
          all.some(({ fleet }) => fleet),
        ),
        all,
        outputWidth(),
      );
      const lines = [gridTitle(grid), ...all.map((each) => gridLine(grid, each))];
      await printLines(kept ? lines : [...lines, "note: they end with the proxy's process"]);
    }
    return DONE;
  },
};

function required(subject: string | undefined): string {
  if (subject !== undefined) return subject;
  throw new UsageError(`say who: ${SUBJECT.description}`);
}

function where({ fleet, published }: BlockView): string {
  return !fleet ? "here" : published === true ? "fleet" : "fleet, not sent";
}

/** @param inFleet whether some hold in a fleet */
function columns(now: number, inFleet: boolean): Column<BlockView>[] {
  const left = ({ until }: BlockView) => (until === undefined ? "-" : timeLeft(until, now));
  return [
    { title: "WHO", text: ({ subject }) => shown(subject), cut: "middle", least: 12 },
    { title: "ENDS IN", text: left, right: true },
    ...(inFleet ? [{ title: "WHERE", text: where, rank: 1 }] : []),
    { title: "BY", text: ({ actor }) => shown(actor), cut: "middle", least: 8 },
    { title: "REASON", text: ({ reason }) => shown(reason), least: 8 },
  ];
}
