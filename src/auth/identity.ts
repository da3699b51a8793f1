// Identifies a client by the Common Name of its verified certificate, `user@group`. Pure.

/** A client as its certificate names it. */
export interface Identity {
  /** `user@group`, mostly the whole Common Name: the client for every limit, and in the log. */
  readonly client: string;
  readonly user: string;
  /** Compared with `authorizedGroups`, exactly. */
  readonly group: string;
}

/**
 * Reads the identity from a certificate's subject as `X509Certificate.subject` prints it: a line per relative
 * distinguished name, its attributes joined by ` + `, special characters escaped with a backslash (RFC 2253, section
 * 2.4) and control characters as `\0A`. A value cannot forge a line or an attribute, because its line feeds and plus
 * signs are escaped.
 *
 * @returns undefined unless there is exactly one Common Name of the form `user@group` with exactly one `@`, both parts
 *   non-empty, and no white space, control or invisible character
 */
export function identify(subject: string | undefined): Identity | undefined {
  const [client, ...others] = commonNames(subject);
  if (client === undefined || others.length > 0) return undefined;

  const parts = client.split("@");
  const [user, group] = parts;
  if (parts.length !== 2 || !user || !group || hasForbidden(client)) return undefined;
  return { client, user, group };
}

/** The Common Names in a subject of the format that {@link identify} reads. */
export function commonNames(subject: string | undefined): string[] {
  return (subject ?? "")
    .split("\n")
    .flatMap((line) => line.split(" + "))
    .filter((attribute) => attribute.startsWith("CN="))
    .map((name) => unescape(name.slice("CN=".length)));
}

/** Why {@link identify} finds no identity, for the log. */
export function identityFault(subject: string | undefined): string {
  const names = commonNames(subject);
  const [name] = names;
  if (name === undefined) return "no Common Name";
  if (names.length > 1) return `${names.length} Common Names`;
  const unfit = forbiddenIn(name);
  if (unfit !== undefined) return `the forbidden character ${unfit}`;
  const [user, group, ...more] = name.split("@");
  if (group === undefined) return "no @";
  if (more.length > 0) return `${more.length + 1} times @`;
  return user === "" ? "nothing before the @" : "nothing after the @";
}

/**
 * Whether a group can be authorized: it can be part of an identity and has no `*`. A `*` would mean that the author
 * expects a pattern.
 */
export function isGroupName(text: string): boolean {
  return text !== "" && !/[@*]/.test(text) && !hasForbidden(text);
}

/** Whether a text names a client, `alice@admin`, or all clients of a group, `*@admin`. */
export function isClientPattern(text: string): boolean {
  const [user = "", group = "", ...more] = text.split("@");
  const isUser = user === "*" || (user !== "" && !user.includes("*") && !hasForbidden(user));
  return more.length === 0 && isUser && isGroupName(group);
}

/** Whether a client is the one that a pattern names, or in the group that it names. */
export function matchesClient(pattern: string, client: string): boolean {
  return pattern.startsWith("*@")
    ? client.slice(client.indexOf("@")) === pattern.slice(1)
    : client === pattern;
}

/** The first character that no name may have, such as `U+0000`; undefined if there is none. */
export function forbiddenIn(text: string): string | undefined {
  const unfit = hasForbidden(text) ? FORBIDDEN_CHARACTER.exec(text)?.[0].codePointAt(0) : undefined;
  return unfit === undefined ? undefined : `U+${unfit.toString(16).toUpperCase().padStart(4, "0")}`;
}

function hasForbidden(text: string): boolean {
  // Most names are visible ASCII: the runtime then does not load its Unicode tables, which take memory.
  return !VISIBLE_ASCII.test(text) && FORBIDDEN_CHARACTER.test(text);
}
const VISIBLE_ASCII = /^[!-~]*$/;

/**
 * White space, control characters, unpaired surrogates, and characters that are invisible or look like a space: those
 * that Unicode calls default-ignorable, and the Braille blank.
 */
const FORBIDDEN_CHARACTER = /[\p{Z}\p{C}\p{White_Space}\p{Default_Ignorable_Code_Point}\u2800]/u;

function unescape(value: string): string {
  return value.replace(/\\([0-9A-F]{2}|.)/gsu, (_, escaped: string) =>
    escaped.length === 2 && /^[0-9A-F]{2}$/.test(escaped)
      ? String.fromCharCode(parseInt(escaped, 16))
      : escaped,
  );
}
