// Errors of configuring and starting, and their texts for people.

export type { CloseReason, RefusalReason } from "./reasons.ts";

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

/** A value in the form that an error may show: quoted, on one line, of limited length. */
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
 * Escapes characters that JSON leaves alone and that can deceive a terminal or a reader: control characters of both
 * sets, marks that reorder or hide text, invisible characters, and every space but U+0020. In JSON text the result
 * means the same.
 */
export function escapeInvisible(text: string): string {
  // Most texts: the runtime then does not load its Unicode tables, which take memory.
  if (PRINTABLE_ASCII.test(text)) return text;
  return text.replace(INVISIBLE, (char) =>
    Array.from(
      { length: char.length },
      (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`,
    ).join(""),
  );
}
const PRINTABLE_ASCII = /^[ -~]*$/;
const INVISIBLE = /(?! )[\p{C}\p{Z}\p{White_Space}\p{Default_Ignorable_Code_Point}\u2800]/gu;
