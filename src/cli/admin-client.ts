// How a command asks a running proxy: over the Unix socket of its door for operators, in HTTP. A new command needs
// CLIENT_FLAGS among its flags and AdminClient.find(flags); what it cannot do is a CommandError with one line for people.

import { dirname, resolve } from "node:path";
import { readConfigFile } from "../config/file.ts";
import { ConfigError, codeOf, escapeInvisible, quote } from "../lib/errors.ts";
import { CommandError } from "./command.ts";
import { UsageError, type Flag, type FlagValues } from "./flags.ts";
import { events, lines } from "./streams.ts";

const DEFAULT_SOCKET = "/run/tcpproxy/admin.sock";

/** Flags of every command that asks a running proxy. */
export const CLIENT_FLAGS = {
  admin: {
    type: "string",
    valueHint: "PATH",
    description: "the running proxy's admin.socket",
    builtIn: DEFAULT_SOCKET,
  },
  config: {
    type: "string",
    valueHint: "FILE",
    description: "configuration file that says admin.socket; nothing else of it is read",
    builtIn: "none",
  },
  json: { type: "boolean", description: "print JSON, an object a line" },
} as const satisfies Record<string, Flag>;

/** The exit codes of every command that asks a running proxy. */
export const CLIENT_EXIT_CODES = [
  ["0", "done"],
  ["1", "no proxy answers, or it refuses"],
  ["2", "the command line or the configuration is wrong"],
] as const;

/** The title under which the help lists commands that only look. */
export const LOOK = "Look into a running proxy";

/** The title under which the help lists commands that change something. */
export const CHANGE = "Change a running proxy";

/** The most milliseconds that a proxy may be silent while it is answering. */
const SILENCE_MS = 10_000;

/** What is given in the query of an address; undefined ones are left out. */
export type Query = Readonly<Record<string, string | undefined>>;

/** Something that has happened. */
export interface Happening<T> {
  readonly name: string;
  readonly data: T;
}

/** A change: anything that is no GET. */
export interface Change {
  readonly method: "POST" | "PUT" | "PATCH" | "DELETE";
  readonly query?: Query;
  readonly body?: unknown;
}

export class AdminClient {
  readonly #socket: string;
  readonly #silenceMs: number;

  constructor(socket: string, silenceMs = SILENCE_MS) {
    this.#socket = socket;
    this.#silenceMs = silenceMs;
  }

  /**
   * For the socket that the flags say: `--admin`, or the one of `--config`, or the usual one.
   * @throws UsageError where the file says none
   */
  static async find(flags: FlagValues): Promise<AdminClient> {
    return new AdminClient(await socketFor(flags));
  }

  /** Asks for one JSON object. @throws CommandError */
  async get<T>(path: string, query?: Query): Promise<T> {
    return this.#whole<T>(await this.#ask(path, query, {}));
  }

  /** Asks for a change, and answers what the proxy says of it. @throws CommandError */
  async change<T>(path: string, { method, query, body }: Change): Promise<T> {
    const headers = { "content-type": "application/json", "x-tcpproxy": "1" };
    const response = await this.#ask(path, query, { method, headers, body: JSON.stringify(body ?? {}) });
    return this.#whole<T>(response);
  }

  /** Asks for JSON objects that come one a line. @throws CommandError, also in between */
  async *objects<T>(path: string, query?: Query): AsyncGenerator<T> {
    for await (const line of lines(this.#chunks(await this.#ask(path, query, {}))))
      yield this.#parse<T>(line);
  }

  /**
   * Asks for events as they happen. It ends only by an error, or with the signal.
   * @throws CommandError, also in between
   */
  async *events<T>(path: string, query: Query, signal: AbortSignal): AsyncGenerator<Happening<T>> {
    try {
      const coming = events(this.#chunks(await this.#ask(path, query, { signal }), "went away"));
      for await (const { name, data } of coming) yield { name, data: this.#parse<T>(data) };
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    if (!signal.aborted) throw this.#fails("went away");
  }

  async #ask(path: string, query: Query = {}, init: RequestInit): Promise<Response> {
    const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const search = given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
    const abort = new AbortController();
    init.signal?.addEventListener("abort", () => abort.abort(), { once: true });
    // The runtime's own limit would end a stream.
    const own = { unix: this.#socket, timeout: false, keepalive: false };
    const options = { ...init, ...own, signal: abort.signal, redirect: "manual" };
    const response = await this.#heard(
      fetch(`http://localhost${path}${search}`, options as RequestInit),
      abort,
    ).catch((error: Error) => {
      throw this.#unreachable(error);
    });
    this.#aborts.set(response, abort);
    if (response.ok && isJson(response)) return response;
    throw await this.#refused(response);
  }

  readonly #aborts = new WeakMap<Response, AbortController>();

  /** What was refused, in the proxy's own words where it is one. */
  async #refused(response: Response): Promise<CommandError> {
    type Refusal = { error?: unknown; faults?: unknown };
    const { error, faults } = await this.#whole<Refusal>(response).catch((): Refusal => ({}));
    if (typeof error !== "string") return this.#stranger();
    const text = [error, ...faultLines(faults)].map(escapeInvisible).join("\n");
    return new CommandError(
      response.status === 403 ? `no right to ask this: ${text}` : `the proxy refuses: ${text}`,
    );
  }

  async #whole<T>(response: Response): Promise<T> {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#chunks(response)) text += decoder.decode(chunk, { stream: true });
    return this.#parse<T>(text);
  }

  #parse<T>(text: string): T {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      throw this.#stranger();
    }
    if (typeof value !== "object" || value === null) throw this.#stranger();
    return value as T;
  }

  /** @param broken what the proxy did if it does not come to an end */
  async *#chunks(response: Response, broken = "broke off its answer"): AsyncGenerator<Uint8Array> {
    const reader = response.body?.getReader();
    const abort = this.#aborts.get(response) ?? new AbortController();
    try {
      while (reader !== undefined) {
        const { done, value } = await this.#heard(reader.read(), abort);
        if (done) return;
        yield value;
      }
    } catch (error) {
      throw error instanceof CommandError ? error : this.#fails(broken);
    } finally {
      abort.abort();
    }
  }

  /** Waits for what comes of the proxy, for so long and no longer. */
  async #heard<T>(coming: Promise<T>, abort: AbortController): Promise<T> {
    let timer: Timer | undefined;
    const silence = new Promise<never>((_, fail) => {
      timer = setTimeout(
        () => fail(this.#fails(`has not answered for ${this.#silenceMs / 1_000} s`)),
        this.#silenceMs,
      );
    });
    try {
      return await Promise.race([coming, silence]);
    } catch (error) {
      abort.abort();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #fails(how: string): CommandError {
    return new CommandError(`the proxy at ${this.#path} ${how}`);
  }

  #stranger(): CommandError {
    return new CommandError(`what answers at ${this.#path} is not a proxy's door for operators`);
  }

  #unreachable(error: Error): CommandError {
    if (error instanceof CommandError) return error;
    const code = codeOf(error) ?? error.message;
    const why = TROUBLE[code] ?? escapeInvisible(code);
    return new CommandError(`no proxy can be asked at ${this.#path}: ${why}`);
  }

  get #path(): string {
    return quotePath(this.#socket);
  }
}

/** The path of the socket, as {@link AdminClient.find} takes it. @throws UsageError */
export async function socketFor({ admin, config }: FlagValues): Promise<string> {
  return admin ?? (config === undefined ? DEFAULT_SOCKET : await socketOf(config));
}

const TROUBLE: Readonly<Record<string, string>> = {
  ENOENT: "there is no such socket; --admin or --config says where another one is",
  ECONNREFUSED: "nothing listens there",
  EACCES: "permission denied; the socket is open to the user that the proxy runs as",
  ECONNRESET: "it closed the connection without an answer",
  ENOTDIR: "part of the path is not a folder",
  ENAMETOOLONG: "the path is too long for a socket",
};

/** The faults of a configuration, one a line. */
function faultLines(faults: unknown): string[] {
  if (!Array.isArray(faults)) return [];
  return faults.map((fault: { key?: unknown; problem?: unknown }) =>
    fault.key === undefined ? String(fault.problem) : `${fault.key}: ${fault.problem}`,
  );
}

/** What the proxy answers with is JSON, JSON lines or events, and says so. */
function isJson(response: Response): boolean {
  return /^(application\/(x-)?(json|ndjson)|text\/event-stream)\b/.test(
    response.headers.get("content-type") ?? "",
  );
}

/** As the file writes it, whatever else is wrong with the file. */
async function socketOf(file: string): Promise<string> {
  let input: unknown;
  try {
    input = await readConfigFile(file);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new UsageError(error.message);
  }
  const { admin } = (input ?? {}) as { admin?: { socket?: unknown } | null };
  const socket = admin?.socket;
  if (typeof socket === "string" && socket !== "") return resolve(dirname(file), socket);
  throw new UsageError(
    `${file}: admin.socket: ${socket === undefined ? "is missing" : `${quote(socket)} is not a path`}; without it there is no way to ask the proxy`,
  );
}

/** As it can be typed, if it is plain. */
function quotePath(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : quote(path);
}
