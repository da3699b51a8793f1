// The text that tells an identified client why it is refused, if its tunnel asks. It names the client's own group, the
// server name that it asked for and the upstream; never an address, a target or another client. Pure.

import type { RefusalReason } from "../lib/errors.ts";
import type { Refusal } from "./admission.ts";

/** Names in the text are cut to so many characters. */
const MAX_NAME = 120;

/** @param id the one that the refusal's line in the log has */
export function refusalText(reason: RefusalReason, about: Omit<Refusal, "reason">, id: string): string {
  return `${reason} (id ${id}): ${explain(reason, about)}`;
}

function explain(
  reason: RefusalReason,
  { client = "", upstream = "", detail }: Omit<Refusal, "reason">,
): string {
  const name = (text: string) => (text.length > MAX_NAME ? `${text.slice(0, MAX_NAME)}…` : text);
  switch (reason) {
    case "group_not_authorized":
      return `your group ${name(client.slice(client.indexOf("@") + 1))} is not listed for ${name(upstream)}`;
    case "unknown_server_name":
      return detail === undefined
        ? "you asked for no server name, and no upstream takes such connections"
        : `no upstream has the server name ${name(detail)}`;
    case "connection_limit":
      return detail === undefined
        ? "you have as many connections open as one client may have"
        : `${name(upstream)} has as many connections open as it may have`;
    case "rate_limited":
      return "you connect more often than one client may: wait a moment, or keep connections open";
    case "fleet_unavailable":
      return "the proxies cannot count connections together at the moment: try again later";
    case "no_target":
      return detail === undefined
        ? `no server of ${name(upstream)} answers`
        : `no server of ${name(upstream)} has room`;
    case "proxy_header":
      return "your name is too long for the PROXY protocol";
    default:
      return "the log of the proxy has more";
  }
}
