// Log lines: for people on a terminal, or JSON for machines. consola filters by level and throttles nothing. Values
// from a peer or a certificate are escaped.

import { createConsola, type ConsolaOptions } from "consola/core";
import { escapeInvisible } from "./errors.ts";
import { onDropped, writeToStderr } from "./stderr.ts";

/** From most to least verbose; `silent` writes nothing. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Values that go with a message. Undefined ones are left out. */
export type Fields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** The destination of the proxy's log. `console` and consola fit. */
export interface Logger {
  debug(message: string, fields: Fields): void;
  info(message: string, fields: Fields): void;
  warn(message: string, fields: Fields): void;
  error(message: string, fields: Fields): void;
}

/** `json` is one object a line: `time` (ISO 8601, UTC), `level`, `msg`, then the fields. */
export const LOG_FORMATS = ["pretty", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** How {@link createLogger} writes. */
export interface LoggerOptions {
  /** The least severe level that is written. Default: `"info"`. */
  level?: LogLevel;
  /** Default: `"pretty"` if standard error is a terminal, otherwise `"json"`. */
  format?: LogFormat;
  /** Takes each line, line feed included. Default: standard error. */
  write?: (line: string) => void;
}

const CONSOLA_LEVEL: Record<LogLevel, number> = { debug: 4, info: 3, warn: 1, error: 0, silent: -Infinity };

/** A logger that writes lines. */
export function createLogger(options: LoggerOptions = {}): Logger {
  const { level = "info", write = writeToStderr } = options;
  const json = (options.format ?? (process.stderr.isTTY ? "pretty" : "json")) === "json";
  const color = !json && options.write === undefined && process.stderr.isTTY && !process.env.NO_COLOR;
  const format = (date: Date, type: string, message: string, fields: Fields) =>
    json ? jsonLine(date, type, message, fields) : prettyLine(date, type, message, fields, color);
  if (options.write === undefined) {
    onDropped((count) => format(new Date(), "warn", "log lines dropped", { count }));
  }
  const consola = createConsola({
    level: CONSOLA_LEVEL[level],
    // consola suppresses lines that repeat within this time; with a time below any other, it never does.
    throttle: -Infinity,
    reporters: [
      {
        log({ date, type, args }) {
          const [message, fields] = args as [string, Fields];
          write(format(date, type, message, fields));
        },
      },
    ],
  } satisfies Partial<ConsolaOptions>);
  return {
    debug: (message, fields) => void consola.debug(message, fields),
    info: (message, fields) => void consola.info(message, fields),
    warn: (message, fields) => void consola.warn(message, fields),
    error: (message, fields) => void consola.error(message, fields),
  };
}

/**
 * Passes on what is severe enough for the current level, and swallows errors of the logger: they must not break a
 * connection in the middle of its release.
 */
export function guarded(logger: Logger, level: () => LogLevel): Logger {
  const guard =
    (own: keyof Logger): Logger["info"] =>
    (message, fields) => {
      if (LOG_LEVELS.indexOf(own) < LOG_LEVELS.indexOf(level())) return;
      try {
        logger[own](message, fields);
      } catch {
        // There is no place left to report it.
      }
    };
  return { debug: guard("debug"), info: guard("info"), warn: guard("warn"), error: guard("error") };
}

function jsonLine(date: Date, level: string, msg: string, fields: Fields): string {
  return `${escapeInvisible(JSON.stringify({ time: date.toISOString(), level, msg, ...fields }))}\n`;
}

const COLORS: Record<string, number> = { debug: 90, info: 36, warn: 33, error: 31 };

function prettyLine(date: Date, level: string, msg: string, fields: Fields, color: boolean): string {
  const time = date.toISOString().replace("T", " ").replace("Z", "");
  const tag = color ? `\x1b[${COLORS[level]}m${level.padEnd(5)}\x1b[39m` : level.padEnd(5);
  let text = msg;
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    text += ` ${key}=${typeof value === "string" && !PLAIN.test(value) ? JSON.stringify(value) : value}`;
  }
  return `${time} ${tag} ${escapeInvisible(text)}\n`;
}
const PLAIN = /^[\w@.:/[\]+,-]+$/;
