// Configuration files: TOML, YAML or JSON, chosen by extension. Reads and parses; what is in them is for the resolver.

import { readFileSync } from "node:fs";
import { extname, resolve } from "node:path";
import { ConfigError, cannotRead, escapeInvisible, quote } from "./errors.ts";

/** By extension: the parser, and the module loader's name for the same language. */
const LANGUAGES: Record<string, { parse: (text: string) => unknown; loader: string }> = {
  ".toml": { parse: Bun.TOML.parse, loader: "toml" },
  ".yaml": { parse: Bun.YAML.parse, loader: "yaml" },
  ".yml": { parse: Bun.YAML.parse, loader: "yaml" },
  ".json": { parse: JSON.parse, loader: "jsonc" },
};

/**
 * Reads a file into what {@link resolveConfig} takes.
 * @throws ConfigError that names the file and, for a syntax error, the line
 */
export async function readConfigFile(path: string): Promise<unknown> {
  const fail = (problem: string) => new ConfigError([{ key: path, problem }]);
  const language = LANGUAGES[extname(path).toLowerCase()];
  if (language === undefined) {
    throw fail(`the extension ${quote(extname(path))} is none of ${Object.keys(LANGUAGES).join(", ")}`);
  }
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw fail(cannotRead(error));
  }
  try {
    return language.parse(text);
  } catch (error) {
    // It may show a part of the file, whatever that is.
    const message = escapeInvisible((error as Error).message.slice(0, 200));
    throw fail(`${await positionOf(path, language.loader)}${message}`);
  }
}

/** The parsers do not say where they stopped, but the module loader does: it is asked once something is wrong. */
async function positionOf(path: string, type: string): Promise<string> {
  try {
    // It never loads again what it has loaded once, as where only the parser minds: each time by another name.
    await import(`${resolve(path)}?${++asked}`, { with: { type } });
  } catch (error) {
    const { position } = error as { position?: { line: number; column: number } | null };
    if (position) return `line ${position.line}, column ${position.column}: `;
  }
  return "";
}
let asked = 0;
