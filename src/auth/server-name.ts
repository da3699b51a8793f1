// Routes a connection to an upstream by the server name that the client asks for (SNI, RFC 6066, section 3). Pure.

/** An upstream, as far as routing goes. */
export interface Route {
  readonly name: string;
  /** In the form that {@link parseServerName} returns; undefined for none. */
  readonly serverNames: readonly string[] | undefined;
}

/**
 * Reads a server name: a host name, or `*.` and a host name for everything below it.
 * @returns lower case, without a final dot; undefined if the text is not a server name
 */
export function parseServerName(text: unknown): string | undefined {
  if (typeof text !== "string") return undefined;
  const name = text.replace(/\.$/, "");
  const host = name.startsWith("*.") ? name.slice(2) : name;
  const labels = host.split(".");
  // Checked before lower-casing, which would turn some characters outside ASCII into a to z.
  const fits = labels.every((label) => /^[a-z\d_]([a-z\d_-]{0,61}[a-z\d_])?$/i.test(label));
  return fits && host.length <= 253 && !/^[\d.]+$/.test(host) ? name.toLowerCase() : undefined;
}

/** Finds the upstream for a server name: exact names first, then the longest suffix, then the fallback. */
export class Router {
  readonly #byName = new Map<string, string>();
  readonly #fallback: string | undefined;

  /**
   * @param routes no server name may be in two of them
   * @param fallback the name of the upstream for everything else, if any
   */
  constructor(routes: readonly Route[], fallback: string | undefined) {
    for (const { name, serverNames = [] } of routes)
      for (const each of serverNames) this.#byName.set(each, name);
    this.#fallback = fallback;
  }

  /**
   * @param asked as the client sent it, any bytes; undefined if it sent none
   * @returns the upstream's name
   */
  route(asked: string | undefined): string | undefined {
    const pattern = this.pattern(asked);
    return pattern === undefined ? this.#fallback : this.#byName.get(pattern);
  }

  /** The server name of an upstream that a client's matches; undefined if the fallback gets it. */
  pattern(asked: string | undefined): string | undefined {
    return matchServerName(this.#byName, asked);
  }
}

/** The one of these names that a client's matches: the same one first, then the longest suffix. */
export function matchServerName(
  names: { has(name: string): boolean },
  asked: string | undefined,
): string | undefined {
  const name = parseServerName(asked);
  // A star in a client's server name is not a wildcard.
  if (name === undefined || name.startsWith("*")) return undefined;
  if (names.has(name)) return name;
  for (let dot = name.indexOf("."); dot > 0; dot = name.indexOf(".", dot + 1)) {
    const suffix = `*${name.slice(dot)}`;
    if (names.has(suffix)) return suffix;
  }
  return undefined;
}

/**
 * Finds the fallback: the upstream for connections that no server name routes. It is the only upstream without server
 * names or, if several have none, the only one of them without a pinned listener.
 * @returns its name, or all candidates if there is more than one
 */
export function restOf(routes: readonly Route[], pinned: ReadonlySet<string>): string | undefined | string[] {
  const nameless = routes.filter(({ serverNames }) => serverNames === undefined).map(({ name }) => name);
  if (nameless.length <= 1) return nameless[0];
  const free = nameless.filter((name) => !pinned.has(name));
  return free.length <= 1 ? free[0] : free;
}
