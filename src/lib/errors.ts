// The words for what can go wrong: stable reason codes for the log, and the one error that configuration throws.

/**
 * Why a connection was refused. The codes are stable: dashboards and alerts are built on them.
 *
 * - `handshake_failed` no TLS 1.3 handshake: the client does not trust the proxy, another protocol, an old TLS version
 * - `handshake_timeout` not finished within `handshakeTimeout`
 * - `certificate_missing` no client certificate was offered
 * - `certificate_untrusted` no chain to the CA, or not usable for client authentication
 * - `certificate_expired` outside its validity, before or after
 * - `certificate_revoked` listed in the CRL
 * - `certificate_weak` an RSA key below 2048 bits, or a signature with SHA-1 or MD5, in the chain below the root
 * - `identity_invalid` the Common Name is not exactly one `user@group`
 * - `unknown_server_name` no upstream is meant for the server name that the client asked for
 * - `group_not_authorized` the upstream does not list the group
 * - `connection_limit` the client has `rateLimit.maxConnections` connections open
 * - `rate_limited` the client's token bucket is empty
 * - `source_limited` its address has used up what strangers may cost; before TLS
 * - `overloaded` all clients together have `maxConnections` connections open
 * - `no_target` no target of the upstream answered
 * - `proxy_header` the upstream is to be told who is calling, and that cannot be put into a PROXY protocol header
 */
export type RefusalReason =
  | "handshake_failed"
  | "handshake_timeout"
  | "certificate_missing"
  | "certificate_untrusted"
  | "certificate_expired"
  | "certificate_revoked"
  | "certificate_weak"
  | "identity_invalid"
  | "unknown_server_name"
  | "group_not_authorized"
  | "connection_limit"
  | "rate_limited"
  | "source_limited"
  | "overloaded"
  | "no_target"
  | "proxy_header";

/**
 * Why an admitted connection ended. Only `closed` is an orderly end, passed on as one; after any other the client sees
 * its connection close without a close_notify and the upstream sees a reset, so that neither takes half a stream for a
 * whole one.
 *
 * - `closed` both sides ended and every byte was delivered
 * - `client_reset`, `upstream_reset` that side broke the connection off
 * - `client_error` the client broke the TLS protocol
 * - `idle_timeout` no byte in either direction for `timeout`
 * - `max_duration` open for `maxConnectionDuration`
 * - `certificate_expired` the client's certificate ran out while it was connected
 * - `authorization_revoked` a reload took away what had let the client in
 * - `shutdown` cut when the proxy shut down
 * - `internal_error` a bug in the proxy; the line has the error
 */
export type CloseReason =
  | "closed"
  | "client_reset"
  | "upstream_reset"
  | "client_error"
  | "idle_timeout"
  | "max_duration"
  | "certificate_expired"
  | "authorization_revoked"
  | "shutdown"
  | "internal_error";

/** One thing that is wrong with a configuration. */
export interface Fault {
  /** The key at fault, such as `upstreams[0].targets[1]`. */
  readonly key: string;
  /** What is wrong and what would be right, in one line. */
  readonly problem: string;
}

/** A configuration was refused. The message has one line per fault. */
export class ConfigError extends Error {
  /** All faults, in the order of the keys. */
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    super(faults.map((fault) => `${fault.key}: ${fault.problem}`).join("\n"));
    this.name = "ConfigError";
    this.faults = faults;
  }
}

/** Something outside the configuration kept the proxy from starting: a port in use, a missing right. */
export class StartError extends Error {
  override name = "StartError";
}

/** The code of an error of the system or of TLS, such as `ECONNRESET`. */
export function codeOf(error: Error | null | undefined): string | undefined {
  return (error as NodeJS.ErrnoException | null | undefined)?.code;
}

/** Why a port could not be opened, for people. */
export function cannotListen(address: string, error: unknown): StartError {
  const { code, message } = error as { code?: string; message: string };
  const why =
    code === "EADDRINUSE"
      ? "the address is in use"
      : code === "EACCES"
        ? "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE"
        : code === "EADDRNOTAVAIL"
          ? "this machine has no such address"
          : message;
  return new StartError(`cannot listen on ${address}: ${why}${code === undefined ? "" : ` (${code})`}`);
}

/** Why a file could not be read, for people. */
export function cannotRead(error: unknown): string {
  const { code, message } = error as { code?: string; message: string };
  return `cannot be read: ${(code !== undefined && FILE_TROUBLE[code]) || message}`;
}
const FILE_TROUBLE: Record<string, string> = {
  ENOENT: "there is no such file",
  EACCES: "permission denied",
  EISDIR: "it is a folder",
  ENOTDIR: "part of the path is not a folder",
  ELOOP: "too many symbolic links",
};

/** A value as it may be shown in an error: quoted, on one line, of bounded length. */
export function quote(value: unknown): string {
  const text = typeof value === "string" || value === null ? JSON.stringify(value) : describe(value);
  return escapeInvisible(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a table";
  return String(value);
}

/**
 * Escapes what JSON leaves alone and a terminal or a reader can be fooled with: control characters of both sets, marks
 * that reorder or hide text, characters that leave no mark, and every space but U+0020. In JSON text the result means the
 * same.
 */
export function escapeInvisible(text: string): string {
  return text.replace(INVISIBLE, (char) =>
    Array.from(
      { length: char.length },
      (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`,
    ).join(""),
  );
}
const INVISIBLE = /(?! )[\p{C}\p{Z}\p{White_Space}\p{Default_Ignorable_Code_Point}\u2800]/gu;
