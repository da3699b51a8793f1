// `proxy dashboard`: the page of the running proxy in a browser, for as long as the command runs.

import { AdminClient, CLIENT_EXIT_CODES, CLIENT_FLAGS, LOOK, socketFor } from "./admin-client.ts";
import { DONE, print, type Command } from "./command.ts";
import { openDashboard } from "./dashboard-server.ts";
import { UsageError } from "./flags.ts";
import { jsonLine } from "./output.ts";
import { onFirstStop } from "./signals.ts";
import { quote } from "../lib/errors.ts";

export const dashboard: Command = {
  usage: "dashboard [FLAGS]",
  summary: "Show its page in a browser, on a port of this machine",
  group: LOOK,
  flags: {
    ...CLIENT_FLAGS,
    port: {
      type: "string",
      valueHint: "N",
      description: "port on 127.0.0.1 to serve the page on",
      builtIn: "one that is free",
    },
  },
  examples: ["dashboard", "dashboard --config /etc/tcpproxy/proxy.toml --port 8080"],
  signals: [["SIGINT (Ctrl-C), SIGTERM", "end it: the page is no longer served"]],
  exitCodes: CLIENT_EXIT_CODES,
  notes:
    "The address that it prints lets one browser in, once: whoever has it may do all that the socket allows. For a proxy on another host, forward the port: ssh -L 8080:127.0.0.1:8080 HOST proxy dashboard --port 8080.",
  async run({ flags, switches }) {
    const port = portIn(flags["port"]);
    const socket = await socketFor(flags);
    // Says so here where there is none.
    await new AdminClient(socket).get("/v1/status");
    const stopped = onFirstStop();
    const { address, close } = await openDashboard(socket, port);
    if (switches.has("json")) print(jsonLine({ address }));
    else print(`${address}\nThe address lets one browser in, once. Ctrl-C ends the page.`);
    await stopped;
    close();
    return DONE;
  },
};

function portIn(text: string | undefined): number {
  if (text === undefined) return 0;
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw new UsageError(`--port: ${quote(text)} is not a port; write it like 8080`);
}
