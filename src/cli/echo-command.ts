// `proxy echo`: echo upstreams, for trying the proxy out.

import { BUILT_IN } from "../config/config.ts";
import { formatAddress, parseListenAddress } from "../lib/address.ts";
import { quote } from "../lib/errors.ts";
import { LOG_LEVELS, guarded } from "../lib/log.ts";
import { DONE, type Command } from "./command.ts";
import { echo } from "./echo.ts";
import { UsageError, choose } from "./flags.ts";
import { LOG_FLAGS, loggerFor } from "./open.ts";
import { ignoreSignals, onStop } from "./signals.ts";

const TARGETS = BUILT_IN.upstreams.flatMap(({ targets }) => targets);

export const echoCommand: Command = {
  usage: "echo [ADDRESS ...] [FLAGS]",
  summary: "Run echo upstreams for trying the proxy out",
  words: {
    name: "ADDRESS",
    description: `where to listen, one echo server each [default: ${TARGETS.join(" ")}]`,
    most: Infinity,
  },
  flags: LOG_FLAGS,
  examples: ["echo 127.0.0.1:9001"],
  signals: [["SIGTERM, SIGINT, SIGQUIT", "stop at once"]],
  async run({ flags, words }) {
    const level = choose("log-level", flags["log-level"], LOG_LEVELS) ?? BUILT_IN.logLevel;
    const log = guarded(loggerFor(flags), () => level);
    ignoreSignals(log);
    const addresses = (words.length > 0 ? words : TARGETS).map((text) => {
      const parsed = parseListenAddress(text);
      if (parsed !== undefined) return parsed;
      throw new UsageError(`${quote(text)} is not an address; write it like "127.0.0.1:9001"`);
    });
    const stopped = onStop(async () => ({ cut: 0 }));
    const servers = addresses.map(echo);
    for (const server of servers) log.info("echo listening", { address: formatAddress(server.address) });
    await stopped;
    for (const server of servers) server.stop();
    return DONE;
  },
};
