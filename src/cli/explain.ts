// `proxy explain`: what would become of a client, and why. Decided offline by the very code that admits clients.

import { presenting, type Explanation, type Line } from "../connection/explanation.ts";
import { loadConfig } from "../config/load.ts";
import { listenerFor } from "../config/listener-for.ts";
import { certificates } from "../config/pem-files.ts";
import { FileStamps } from "../config/watch.ts";
import { explainOffline, offlineRules } from "../engine/offline.ts";
import { escapeInvisible, quote } from "../lib/errors.ts";
import { MOMENTS, parseMoment } from "../lib/moment.ts";
import { atOnce } from "../lib/portions.ts";
import { isIP } from "node:net";
import { DONE, REFUSED, print, type Command } from "./command.ts";
import { FLAGS, UsageError, type Flags, type FlagValues } from "./flags.ts";
import { marks } from "./marks.ts";
import { misuse, readWritten } from "./open.ts";
import { explanationText } from "./explanation-text.ts";

const EXPLAIN_FLAGS = {
  config: FLAGS.config,
  cert: {
    type: "string",
    valueHint: "FILE",
    description: "the client's certificate, then its chain, as the client would send it (PEM)",
  },
  "server-name": {
    type: "string",
    valueHint: "NAME",
    description: "the server name (SNI) that the client asks for",
    builtIn: "none",
  },
  listener: {
    type: "string",
    valueHint: "ADDRESS",
    description: "the listener that it connects to; needed if there are several",
  },
  from: { type: "string", valueHint: "IP", description: "the address that it comes from" },
  at: {
    type: "string",
    valueHint: "TIME",
    description: 'when, such as "2027-01-01T08:00:00Z"',
    builtIn: "now",
  },
  json: { type: "boolean", description: "print JSON" },
} as const satisfies Flags;

export const explain: Command = {
  usage: "explain --cert FILE [FLAGS]",
  summary: "Say whether a client would be admitted, step by step, and what would change it",
  flags: EXPLAIN_FLAGS,
  examples: ["explain --config proxy.toml --cert alice.crt --server-name db.internal"],
  exitCodes: [
    ["0", "the client would be allowed"],
    ["2", "the command line or the configuration is wrong"],
    ["3", "it would be refused"],
  ],
  notes:
    "It opens no port and asks no running proxy. What depends on the moment is not checked: blocks, the client's token bucket and open connections, and whether a target answers.",
  async run({ flags, switches }) {
    const explanation = await offline(flags);
    const { upstream } = explanation;
    print(
      switches.has("json")
        ? escapeInvisible(JSON.stringify(explanation))
        : explanationText(explanation, marks()),
    );
    return upstream === undefined ? REFUSED : DONE;
  },
};

const NOT_OFFLINE: Line = {
  step: "limits",
  ok: undefined,
  text: "not checked offline: token bucket, open connections, targets",
};

async function offline(flags: FlagValues): Promise<Explanation> {
  const { config: configFile, cert, from: address, at, listener: wanted } = flags;
  const serverName = flags["server-name"];
  if (cert === undefined) throw new UsageError("--cert is missing; it is the client's certificate");
  if (address !== undefined && isIP(address) === 0) {
    throw new UsageError(`--from: ${quote(address)} is not an IP address`);
  }
  const date = at === undefined ? Date.now() : parseMoment(at);
  if (date === undefined) throw new UsageError(`--at: ${quote(at)} is not a date; ${MOMENTS}`);
  const from = presenting(clientCertificates(cert));
  try {
    // Of the flags, only --config is about the configuration.
    const written = await readWritten(configFile === undefined ? {} : { config: configFile });
    const options = { seen: new FileStamps(), ...(configFile !== undefined && { configFile }) };
    const loaded = atOnce(loadConfig(written, options));
    const listener = listenerFor(loaded.config, wanted);
    if (typeof listener === "object") throw new UsageError(`--listener: ${listener.problem}`);
    const explanation = explainOffline(offlineRules(loaded), { listener, from, serverName, address, date });
    return { ...explanation, steps: [...explanation.steps, NOT_OFFLINE] };
  } catch (error) {
    throw misuse(error, configFile === undefined ? {} : { config: configFile });
  }
}

function clientCertificates(path: string) {
  const problems: string[] = [];
  const { all } = certificates(path, "--cert", {
    fault: (key, problem) => void problems.push(`${key}: ${problem}`),
    warn() {},
  });
  if (problems.length > 0) throw new UsageError(problems.join("\n"));
  return all;
}
