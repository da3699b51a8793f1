// The kinds of formatted texts: addresses, ranges, groups, server names. Pure.

import { isIP } from "node:net";
import { isClientPattern, isGroupName } from "../auth/identity.ts";
import { parseServerName } from "../auth/server-name.ts";
import { parseListenAddress, parseListener, parseTarget } from "../lib/address.ts";
import { parseProtocol } from "../lib/alpn.ts";
import { MOMENTS, parseMoment } from "../lib/moment.ts";
import { parseRange } from "../lib/source.ts";
import { form } from "./values.ts";

export const listenAddress = form({
  type: "address",
  what: "an address",
  hint: 'write it like ":5000", "127.0.0.1:5000" or "[::1]:5000"',
  parse: parseListenAddress,
  harmless: { hostname: "", port: 0 },
  schema: { pattern: ":\\d{1,5}$", examples: [":5000", "127.0.0.1:5000", "[::1]:5000"] },
});

export const listenerAddress = form({
  type: "address or `systemd:NAME`",
  what: "an address",
  hint: 'write it like ":5000", "127.0.0.1:5000", "[::1]:5000" or "systemd:NAME"',
  parse: parseListener,
  harmless: { hostname: "", port: 0 },
  schema: {
    pattern: "^systemd:[!-9;-~]{1,255}$|:\\d{1,5}$",
    examples: [":5000", "127.0.0.1:5000", "[::1]:5000", "systemd:tcpproxy.socket"],
  },
});

export const targetAddress = form({
  type: "`host:port` or `unix:/path`",
  what: "host:port",
  hint: 'write it like "10.0.0.5:5432", "[::1]:5432" or "unix:/run/db.sock"',
  parse: parseTarget,
  harmless: { hostname: "", port: 0 },
  schema: { pattern: "^unix:/|:\\d{1,5}$", examples: ["10.0.0.5:5432", "unix:/run/db.sock"] },
});

export const RANGES = 'write it like ["10.0.0.0/8", "2001:db8::/32"]';
export const range = form({
  type: "range of addresses",
  what: "a range of addresses",
  hint: RANGES,
  parse: (value) => (parseRange(value) === undefined ? undefined : String(value)),
  harmless: "",
  schema: { examples: ["10.0.0.0/8", "2001:db8::/32"] },
});

export const group = form({
  type: "group",
  what: "a group",
  hint: (value) =>
    typeof value === "string" && value.includes("*")
      ? "a group cannot have this name, and there are no patterns: list each group by its name"
      : "it is what follows the @ of a Common Name, without @ and white space",
  parse: (value) => (typeof value === "string" && isGroupName(value) ? value : undefined),
  harmless: "",
  schema: { pattern: "^[^@*\\s]+$" },
});

export const clientPattern = form({
  type: "`user@group` or `*@group`",
  what: "a client",
  hint: 'write it like "alice@admin" or, for a whole group, "*@admin"',
  parse: (value) => (typeof value === "string" && isClientPattern(value) ? value : undefined),
  harmless: "",
  schema: { pattern: "^[^@\\s]+@[^@\\s]+$", examples: ["alice@admin", "*@admin"] },
});

export const serverName = form({
  type: "server name",
  what: "a server name",
  hint: 'write it like "db.example.com" or "*.example.com"',
  parse: parseServerName,
  harmless: "",
  schema: { pattern: "^(\\*\\.)?[\\w.-]+$", examples: ["db.example.com", "*.example.com"] },
});

export const protocolName = form({
  type: "protocol name",
  what: "a protocol's name",
  hint: 'write it like "postgresql"',
  parse: parseProtocol,
  harmless: "",
  schema: { pattern: "^[!-~]{1,255}$", examples: ["postgresql"] },
});

export const hostName = form({
  type: "host name",
  what: "a host name",
  parse: (value) => (String(value).startsWith("*") ? undefined : parseServerName(value)),
  harmless: "",
  schema: { pattern: "^[\\w.-]+$" },
});

export const client = form({
  type: "`user@group`",
  what: "a client",
  hint: 'write it like "alice@admin"',
  parse: (value) =>
    typeof value === "string" && isClientPattern(value) && !value.startsWith("*") ? value : undefined,
  harmless: "",
  schema: { pattern: "^[^@\\s*]+@[^@\\s*]+$", examples: ["alice@admin"] },
});

export const ipAddress = form({
  type: "IP address",
  what: "an IP address",
  hint: 'write it like "10.0.0.5" or "2001:db8::1"',
  parse: (value) => (typeof value === "string" && isIP(value) !== 0 ? value : undefined),
  harmless: "",
  schema: { examples: ["10.0.0.5", "2001:db8::1"] },
});

export const moment = form({
  type: "date, or date and time",
  what: "a date",
  hint: MOMENTS,
  parse: parseMoment,
  harmless: 0,
  schema: { pattern: "^\\d{4}-\\d\\d-\\d\\d", examples: ["2027-01-01", "2027-01-01T08:00:00Z"] },
});
