// `proxy [ADDRESS]`: runs the proxy until a signal stops it.

import { BUILT_IN } from "../config/config.ts";
import { guarded } from "../lib/log.ts";
import { findManager } from "../lib/systemd.ts";
import type { Proxy, ProxyOptions } from "../proxy.ts";
import { DONE, FAILED, type Command } from "./command.ts";
import { FLAGS } from "./flags.ts";
import { ADDRESS, PRECEDENCE, loggerFor, openProxy } from "./open.ts";
import { ignoreSignals, onHangup, onStop } from "./signals.ts";

export const run: Command = {
  usage: "[ADDRESS] [FLAGS]",
  summary: "Run the proxy: TLS 1.3 and client certificates in front of TCP",
  words: ADDRESS,
  flags: FLAGS,
  examples: [
    "--config /etc/tcpproxy/proxy.toml",
    ":5000 --ca ca.crt --cert server.crt --key server.key \\\n    --targets 10.0.0.5:5432,10.0.0.6:5432 --groups dba",
  ],
  signals: [
    ["SIGTERM, SIGINT, SIGQUIT", "stop: open connections may finish; a second signal closes them"],
    ["SIGHUP", "read the configuration and its files again"],
  ],
  notes: `${PRECEDENCE} "proxy help" lists topics to read.`,
  async run({ flags }) {
    const logger = loggerFor(flags);
    let running: Proxy | undefined;
    ignoreSignals(guarded(logger, () => running?.config.logLevel ?? BUILT_IN.logLevel));
    const opened = asService(() => running as Proxy)
      .then((options) => openProxy(flags, logger, options))
      .then(({ proxy }) => proxy);
    // Set up first: without a handler, a SIGHUP ends the process. The log reports what is wrong with a configuration;
    // the one in force stays.
    onHangup(() => void opened.then((proxy) => proxy.reload()).catch(() => {}));
    const proxy = (running = await opened);
    let stopping = false;
    const stopped = onStop((again) => {
      stopping = true;
      return proxy.close(again ? { timeout: 0 } : {});
    });
    // A signal may come first: then there is nothing to wait for, and a start that it breaks off is no failure.
    const listening = proxy.listen().catch((error: unknown) => {
      if (!stopping) throw error;
    });
    await Promise.race([listening, stopped]);
    const { cut } = await Promise.race([stopped, proxy.ended.then(() => stopped)]);
    return cut > 0 ? FAILED : DONE;
  },
};

/** What tells systemd of the proxy, if it is to be told. */
async function asService(proxy: () => Proxy): Promise<Pick<ProxyOptions, "onPhase">> {
  const manager = findManager();
  if (manager === undefined) return {};
  const { Service } = await import("./service.ts");
  const service = new Service(manager, proxy);
  return { onPhase: (phase) => service.enter(phase) };
}
