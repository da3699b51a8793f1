// Writes the library's types as one declaration file, from the sources. Bun checks types but emits none, and the TypeScript
// compiler is twenty megabytes for some twenty declarations. It reads only the forms that the sources use, and throws at any
// other; the test of the package has the type checker compare the result with the sources.

import { dirname, join } from "node:path";
import { readFileSync } from "node:fs";

interface Origin {
  readonly file: string;
  readonly name: string;
}

/** @returns the text of `index.d.ts` for what `index` exports */
export async function declarations(index: string): Promise<string> {
  const exported = new Set<string>();
  const emitted = new Map<string, { file: string; text: string }>();

  const emit = async (from: Origin): Promise<void> => {
    const origin = origins(from.file, from.name);
    if (origin === undefined) return;
    const { file, name } = origin;
    const known = emitted.get(name);
    if (known?.file === file) return;
    if (known !== undefined) throw new Error(`${file}: ${name} is also declared in ${known.file}`);
    const entry = { file, text: "" };
    emitted.set(name, entry);
    const { doc, code } = statement(file, name)!;
    const declared = await declare(origin, code);
    entry.text = doc + (exported.has(name) ? "export " : "") + declared;
    for (const each of references(declared)) await emit({ file, name: each });
  };

  const names = linksOf(index).flatMap((link) => link.names.map((name) => ({ file: link.file, name })));
  for (const { name } of names) exported.add(name);
  for (const each of names) {
    if (origins(each.file, each.name) === undefined) throw new Error(`${each.file}: no ${each.name}`);
    await emit(each);
  }
  // With this line, declarations without `export` are private to the file.
  return [...emitted.values(), { text: "export {};" }].map(({ text }) => `${text}\n`).join("\n");
}

/** Where a name that a file uses is declared; undefined where that is outside of this tree. */
function origins(file: string, name: string): Origin | undefined {
  if (statement(file, name) !== undefined) return { file, name };
  const link = linksOf(file).find(({ names }) => names.includes(name));
  return link && origins(link.file, name);
}

/** What a file imports from other files, or re-exports. */
function linksOf(file: string): { names: string[]; file: string }[] {
  const links = textOf(file).matchAll(/^(?:import|export)(?: type)? \{([^}]*)\} from "([^"]+)";$/gm);
  return [...links].flatMap(([, list = "", path = ""]) => {
    const names = list
      .split(",")
      .map((each) => each.trim().replace(/^type /, ""))
      .filter(Boolean);
    return path.startsWith(".") ? [{ names, file: join(dirname(file), path) }] : [];
  });
}

/** The statement that declares a name: its first line, and the following ones that are indented or close a bracket. */
function statement(file: string, name: string): { doc: string; code: string } | undefined {
  const pattern = `(/\\*\\*(?:(?!\\*/)[^])*\\*/\\n)?^(?:export )?((?:interface|type|const|class|function) ${name}\\b.*(?:\\n(?:[ \\])}].*)?)*)`;
  const match = new RegExp(pattern, "m").exec(textOf(file));
  return match === null ? undefined : { doc: match[1] ?? "", code: match[2]!.trimEnd() };
}

function textOf(file: string): string {
  return readFileSync(file, "utf8");
}

/** Names that a declaration mentions, except for names of members and words in strings and comments. */
function references(code: string): Set<string> {
  const bare = code.replace(/\/\*[^]*?\*\/|\/\/.*|"(?:[^"\\]|\\.)*"/g, "").replace(/\b\w+\??:/g, "");
  return new Set(bare.match(/\b[A-Za-z_]\w*/g)?.slice(1));
}

async function declare({ file, name }: Origin, code: string): Promise<string> {
  switch (code.split(" ")[0]) {
    case "interface":
    case "type":
      return code;
    case "function":
      return `declare ${signature(file, code)}`;
    case "class":
      return `declare ${classOf(file, code)}`;
    default: {
      const type = /^const \w+: ([^=]+) = /.exec(code)?.[1];
      if (type !== undefined) return `declare const ${name}: ${type};`;
      const module = (await import(file)) as Record<string, unknown>;
      if (!(name in module)) throw new Error(`${file}: ${name} is needed for types and is not exported`);
      return `declare const ${name}: ${typeOf(module[name], /\bas const\b/.test(code))};`;
    }
  }
}

/** A function's or method's head. A parameter with a default becomes an optional one. */
function signature(file: string, code: string): string {
  const head = /^([^{}]*(?:= \{\}[^{}]*)*) \{\n/.exec(code)?.[1];
  if (head === undefined) throw new Error(`${file}: cannot read the signature of ${code.split("\n")[0]}`);
  return `${head.replace(/(\w+): ([^,()]+?) = [^,()]+/g, "$1?: $2")};`;
}

function classOf(file: string, code: string): string {
  const [head, ...body] = code.split("\n");
  const members = body
    .slice(0, -1)
    .join("\n")
    .matchAll(/((?:  (?:\/\*\*| \*).*\n)*)^  (\S.*(?:\n(?:    .*|  [\])}].*)?)*)/gm);
  const lines = [...members].flatMap(([, doc = "", text = ""]) => {
    if (/^(?:readonly |static )*#|^private /.test(text)) return [];
    const field = /^((?:readonly |static )*)(?:override )?(\w+)(?:: ([^=]+?))?(?: = (".*"))?;/.exec(text);
    if (field === null) return [`${doc}  ${signature(file, text.trimEnd())}`];
    const [, words, name, type = field[4] && "string"] = field;
    if (type === undefined) throw new Error(`${file}: ${name} has no type`);
    return [`${doc}  ${words}${name}: ${type};`];
  });
  return [head, ...lines, "}"].join("\n");
}

/** The narrowest type of plain data, so that editors show the built-in values. */
function typeOf(value: unknown, frozen: boolean): string {
  if (Array.isArray(value)) {
    const types = value.map((each) => typeOf(each, frozen));
    if (frozen) return `readonly [${types.join(", ")}]`;
    return types.length === 0 ? "never[]" : `(${[...new Set(types)].join(" | ")})[]`;
  }
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).map(([key, each]) => {
      return `${frozen ? "readonly " : ""}${key}: ${typeOf(each, frozen)}`;
    });
    return `{ ${members.join("; ")} }`;
  }
  if (["string", "number", "boolean"].includes(typeof value)) return JSON.stringify(value);
  throw new Error(`no type for a ${typeof value}`);
}
