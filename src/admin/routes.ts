// The table of endpoints. A new one is a row here, with its name in requests.ts; a handler gets a request that the router has
// let through and whose sender has the right.

import { block, blocks, kick, target, unblock } from "./changes.ts";
import { clients } from "./clients.ts";
import { connections, FILTERS } from "./connections.ts";
import { events } from "./events.ts";
import { explain } from "./explain-request.ts";
import { pageResponse } from "./page.ts";
import { reload } from "./reload.ts";
import { json, type Route } from "./route.ts";
import { statusOf, targetsOf } from "./status.ts";

export const ROUTES: readonly Route[] = [
  { method: "GET", path: "/", action: "page", right: "read", handler: () => pageResponse() },
  {
    method: "GET",
    path: "/v1/status",
    action: "status",
    right: "read",
    handler: ({ subject, right }) => json(statusOf(subject, right)),
  },
  {
    method: "GET",
    path: "/v1/connections",
    action: "connections",
    right: "read",
    query: FILTERS,
    handler: connections,
  },
  {
    method: "GET",
    path: "/v1/clients",
    action: "clients",
    right: "read",
    query: ["fleet"],
    handler: clients,
  },
  {
    method: "GET",
    path: "/v1/targets",
    action: "targets",
    right: "read",
    handler: ({ subject }) => json({ targets: targetsOf(subject) }),
  },
  {
    method: "GET",
    path: "/v1/events",
    action: "events",
    right: "read",
    query: ["status"],
    handler: events,
  },
  { method: "POST", path: "/v1/kick", action: "kick", right: "operate", handler: kick },
  { method: "GET", path: "/v1/blocks", action: "blocks", right: "read", handler: blocks },
  { method: "PUT", path: "/v1/blocks", action: "block", right: "operate", handler: block },
  { method: "DELETE", path: "/v1/blocks", action: "unblock", right: "operate", handler: unblock },
  { method: "PATCH", path: "/v1/targets", action: "target", right: "operate", handler: target },
  { method: "POST", path: "/v1/explain", action: "explain", right: "read", handler: explain },
  {
    method: "POST",
    path: "/v1/reload",
    action: "reload",
    right: "operate",
    query: ["dryRun"],
    handler: reload,
  },
];
