// Log lines: for people on a terminal, or JSON for machines. consola takes the levels; it throttles nothing, and whatever
// a peer or a certificate put into a value is escaped.

import { createConsola, type ConsolaOptions } from "consola/core";
import { escapeInvisible } from "./errors.ts";
import { onDropped, writeToStderr } from "./stderr.ts";

/** From most to least; `silent` writes nothing. */
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Values that go with a message. Undefined ones are left out. */
export type Fields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** What the proxy writes its log to. `console` and consola fit. */
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
  /** Least severe level that is written. Default: `"info"`. */
  level?: LogLevel;
  /** Default: `"pretty"` where standard error is a terminal, `"json"` elsewhere. */
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
    // consola holds back lines that repeat within this time; less than any time there is, it never does.
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
 * Lets through what is severe enough for the level of the moment, and keeps what the logger throws to itself: it must not
 * break a connection in the middle of its release.
 */
export function guarded(logger: Logger, level: () => LogLevel): Logger {
  const guard =
    (own: keyof Logger): Logger["info"] =>
    (message, fields) => {
      if (LOG_LEVELS.indexOf(own) < LOG_LEVELS.indexOf(level())) return;
      try {
        logger[own](message, fields);
      } catch {
        // There is nowhere left to say so.
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
