// Configuration files: TOML, YAML or JSON, chosen by extension. This module reads and parses; the resolver checks the
// contents.

import { readFileSync } from "node:fs";
import { extname, resolve } from "node:path";
import { DuplicateError, refuseDuplicates } from "./duplicates.ts";
import { ConfigError, cannotRead, escapeInvisible, quote } from "../lib/errors.ts";

/** A language of configuration files. */
interface Language {
  parse(text: string): unknown;
  /** The module loader's name for it. */
  readonly loader: string;
  /** Whether the parser itself refuses a key that is given twice. */
  readonly strict: boolean;
}

const YAML: Language = { parse: Bun.YAML.parse, loader: "yaml", strict: false };

/** By extension. */
const LANGUAGES: Record<string, Language> = {
  ".toml": { parse: Bun.TOML.parse, loader: "toml", strict: true },
  ".yaml": YAML,
  ".yml": YAML,
  ".json": { parse: (text) => JSON.parse(text), loader: "jsonc", strict: false },
};

/**
 * Reads a file as input for {@link resolveConfig}.
 * @throws ConfigError that names the file and, for a syntax error or a duplicate key, the line
 */
export async function readConfigFile(path: string): Promise<unknown> {
  const { input, syntax, loader } = parsed(path);
  if (syntax === undefined) return input;
  throw fault(path, `${await positionOf(path, loader)}${syntax}`);
}

/**
 * Reads it in one go.
 * @throws ConfigError that names the file; for a syntax error it names no line
 */
export function readConfigFileAtOnce(path: string): unknown {
  const { input, syntax } = parsed(path);
  if (syntax === undefined) return input;
  throw fault(path, syntax);
}

function fault(path: string, problem: string): ConfigError {
  return new ConfigError([{ key: path, problem }]);
}

/** @returns the contents, or why the parser refuses them */
function parsed(path: string): { input?: unknown; syntax?: string; loader: string } {
  const language = LANGUAGES[extname(path).toLowerCase()];
  if (language === undefined) {
    throw fault(
      path,
      `the extension ${quote(extname(path))} is none of ${Object.keys(LANGUAGES).join(", ")}`,
    );
  }
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw fault(path, cannotRead(error));
  }
  const { loader } = language;
  try {
    const input = language.parse(text);
    if (!language.strict) refuseDuplicates(text, language.parse, input);
    return { input: withoutSchema(input), loader };
  } catch (error) {
    if (error instanceof DuplicateError) throw fault(path, error.message);
    // The message may quote any part of the file.
    return { syntax: escapeInvisible((error as Error).message.slice(0, 200)), loader };
  }
}

/** Removes `$schema`, which tells an editor where the schema is. */
function withoutSchema(input: unknown): unknown {
  if (typeof input !== "object" || input === null || Array.isArray(input)) return input;
  const { $schema, ...rest } = input as Record<string, unknown>;
  return typeof $schema === "string" ? rest : input;
}

/** The parsers do not report a position, but the module loader does. It is called only after an error. */
async function positionOf(path: string, type: string): Promise<string> {
  try {
    // The loader caches what it has loaded, for example if only the parser failed: each call uses another name.
    await import(`${resolve(path)}?${++asked}`, { with: { type } });
  } catch (error) {
    const { position } = error as { position?: { line: number; column: number } | null };
    if (position) return `line ${position.line}, column ${position.column}: `;
  }
  return "";
}
let asked = 0;
