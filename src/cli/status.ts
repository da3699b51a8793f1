// `proxy status`: the state of the running proxy on one page.

import type { Status } from "../admin/api-types.ts";
import { AdminClient, CLIENT_EXIT_CODES, CLIENT_FLAGS, LOOK } from "./admin-client.ts";
import { DONE, type Command } from "./command.ts";
import { jsonLine, outputWidth, printLines } from "./output.ts";
import { statusPage } from "./status-page.ts";

export const status: Command = {
  usage: "status [FLAGS]",
  summary: "Print its state: reloads, clients, upstreams, targets, certificates",
  group: LOOK,
  flags: CLIENT_FLAGS,
  examples: ["status", "status --config /etc/tcpproxy/proxy.toml"],
  exitCodes: CLIENT_EXIT_CODES,
  async run({ flags, switches }) {
    const client = await AdminClient.find(flags);
    const now = await client.get<Status>("/v1/status");
    await printLines(switches.has("json") ? [jsonLine(now)] : statusPage(now, outputWidth(), Date.now()));
    return DONE;
  },
};
