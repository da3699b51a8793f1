// `proxy explain`: what would become of a client, and why. Decided offline by the very code that admits clients, or by a
// running proxy; of that one also what became of a connection.

import { presenting, type Explanation } from "../connection/explanation.ts";
import type { Line } from "../connection/explanation-line.ts";
import { isClientPattern } from "../auth/identity.ts";
import { loadConfig } from "../config/load.ts";
import { listenerFor } from "../config/listener-for.ts";
import { certificates } from "../config/pem-files.ts";
import { FileStamps } from "../config/watch.ts";
import { explainOffline, offlineRules } from "../engine/offline.ts";
import { escapeInvisible, quote } from "../lib/errors.ts";
import { MOMENTS, parseMoment } from "../lib/moment.ts";
import { atOnce } from "../lib/portions.ts";
import { isIP } from "node:net";
import { AdminClient, CLIENT_FLAGS } from "./admin-client.ts";
import { DONE, REFUSED, print, type Command } from "./command.ts";
import { FLAGS, UsageError, type Flags, type FlagValues } from "./flags.ts";
import { marks } from "./marks.ts";
import { misuse, readWritten } from "./open.ts";
import { explanationText } from "./explanation-text.ts";

const EXPLAIN_FLAGS = {
  config: FLAGS.config,
  client: {
    type: "string",
    valueHint: "USER@GROUP",
    description: "who connects, taken as verified, in place of --cert",
  },
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
  live: { type: "boolean", description: "ask the running proxy, which knows limits, blocks and targets" },
  admin: { ...CLIENT_FLAGS.admin, description: "the running proxy's admin.socket, for --live and ID" },
  json: { type: "boolean", description: "print JSON" },
} as const satisfies Flags;

export const explain: Command = {
  usage: "explain [ID] [FLAGS]",
  summary: "Say whether a client would be admitted, step by step, and what would change it",
  words: {
    name: "ID",
    description: "of a connection or a refusal, from the log: the running proxy says what became of it",
    most: 1,
  },
  flags: EXPLAIN_FLAGS,
  examples: [
    "explain --config proxy.toml --cert alice.crt --server-name db.internal",
    "explain --live --config proxy.toml --client alice@dba",
    "explain 7f3a2b1c-4d",
  ],
  exitCodes: [
    ["0", "the client would be allowed"],
    ["1", "no proxy answers, or it refuses"],
    ["2", "the command line or the configuration is wrong"],
    ["3", "it would be refused"],
  ],
  notes:
    "Without --live and ID it opens no port and asks no running proxy. What depends on the moment is not checked then: blocks, the client's token bucket and open connections, and whether a target answers.",
  async run({ flags, switches, words: [id] }) {
    const isLive = id !== undefined || switches.has("live");
    const explanation = isLive ? await live(flags, id) : await offline(flags);
    const { upstream } = explanation;
    if (switches.has("json")) print(escapeInvisible(JSON.stringify(explanation)));
    else print(explanationText(explanation, marks()));
    return upstream === undefined ? REFUSED : DONE;
  },
};

/** Flags that describe a client. */
const ASKED = ["client", "cert", "server-name", "listener", "from", "at"] as const;

async function live(flags: FlagValues, id: string | undefined): Promise<Explanation> {
  const given = ASKED.find((name) => flags[name] !== undefined);
  if (id !== undefined && given !== undefined) throw new UsageError(`ID and --${given} exclude each other`);
  const { client, cert, listener, from, at } = flags;
  const serverName = flags["server-name"];
  if (id === undefined) checkWho(flags);
  // The proxy reads the certificates; a file with a private key in it is not sent as it is.
  const certificate = cert === undefined ? undefined : clientCertificates(cert).map(String).join("");
  const body = id === undefined ? { client, certificate, serverName, listener, from, at } : { id };
  return (await AdminClient.find(flags)).change<Explanation>("/v1/explain", { method: "POST", body });
}

function checkWho({ client, cert }: FlagValues): void {
  if (client === undefined && cert === undefined) {
    throw new UsageError("--cert is missing; it is the client's certificate. Or give --client");
  }
  if (client !== undefined && cert !== undefined)
    throw new UsageError("--client and --cert exclude each other");
  if (client !== undefined && (!isClientPattern(client) || client.startsWith("*"))) {
    throw new UsageError(`--client: ${quote(client)} is not a client; write it like "alice@admin"`);
  }
}

const NOT_OFFLINE: Line = {
  step: "limits",
  ok: undefined,
  text: "not checked offline: token bucket, open connections, targets",
};

async function offline(flags: FlagValues): Promise<Explanation> {
  const { config: configFile, client, cert, from: address, at, listener: wanted, admin } = flags;
  const serverName = flags["server-name"];
  if (admin !== undefined) throw new UsageError("--admin is for --live and ID");
  checkWho(flags);
  if (address !== undefined && isIP(address) === 0) {
    throw new UsageError(`--from: ${quote(address)} is not an IP address`);
  }
  const date = at === undefined ? Date.now() : parseMoment(at);
  if (date === undefined) throw new UsageError(`--at: ${quote(at)} is not a date; ${MOMENTS}`);
  const from =
    cert === undefined
      ? { client: client!, group: client!.slice(client!.indexOf("@") + 1) }
      : presenting(clientCertificates(cert));
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
