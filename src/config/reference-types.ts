// Writes the TypeScript types of a configuration, with the meaning of each key as its docstring. Pure.

import { wrap } from "../lib/wrap.ts";
import { isRequired, type Key, type Keys, type Table } from "./kinds.ts";
import { rows } from "./rows.ts";
import { SCHEMA } from "./schema.ts";

const HEAD = `// What people write: the configuration in TypeScript, TOML, YAML or JSON. Generated from schema.ts by
// \`bun src/config/reference.ts\`; change the declarations there.

/**
 * A text such as \`"250ms"\`, \`"60s"\`, \`"1m30s"\`, \`"1h"\`; 1 ms to just under 25 days. In TypeScript also a number of
 * milliseconds, which a configuration file and a flag refuse.
 */
export type Duration = string | number;
`;

/** What each interface describes, by its name. */
const INTERFACES: Readonly<Record<string, string>> = {
  ProxyConfig:
    "What the proxy does. Every key may be left out and then has its built-in value, except within an entry of a list, which has none. In a configuration file `listener.ca`, `.certificate`, `.privateKey` and `upstreams` have none either: those are the demonstration's.",
  ListenerConfig: "A port that accepts clients. In `listeners`, the first four keys are required.",
  CertificateConfig: "A certificate of the proxy for some server names.",
  MetricsConfig: "The port for monitoring.",
  AdminConfig: "The door for operators. At least one of `socket` and `address` is required.",
  UpstreamConfig:
    "A service: its servers, and who may reach it. At least one of `authorizedGroups` and `authorizedClients` is required, or `anyGroup`.",
  LimitConfig: "Limits of a client, or of each member of a group. At least one beside `match` is required.",
  TestConfig: "A question to the configuration, and the answer that it must give.",
  TargetConfig: "A target with more settings than its address.",
  StoreConfig: "The store of a fleet with more to say than where it is.",
};

/** The text of proxy-config.ts. */
export function typesText(): string {
  const without = new Map(rows().map((row) => [row.key, row.without]));
  const found = new Map<string, string>();

  const fields = ({ keys }: Table<Keys>, prefix: string, indent: number): string =>
    Object.entries(keys)
      .map(([name, declared]) => field(name, declared, prefix + name, indent))
      .join("");

  const field = (name: string, declared: Key<unknown>, path: string, indent: number): string => {
    const { kind, meaning, demonstration } = declared;
    const inner = kind.table;
    const mayBeAbsent = !isRequired(declared) || demonstration !== undefined;
    const absent = without.get(path) ?? "";
    const builtIn = !mayBeAbsent || absent === "the values below" ? "" : ` Built in: ${absent}.`;
    const below = `${path}${kind.list ? "[]" : ""}.`;
    if (inner?.name !== undefined) define(inner, below);
    const nested = inner !== undefined && inner.name === undefined;
    const type = nested ? `{\n${fields(inner, below, indent + 2)}${" ".repeat(indent)}}` : kind.typescript;
    // The type that follows says the rest.
    const isText = kind.typescript === "string" || kind.typescript.startsWith("number");
    const form = isText || kind.type === "duration or `0`" ? `${capitalized(kind.type)}. ` : "";
    const doc = comment(`${form}${meaning}${builtIn}`, indent);
    return `${doc}${" ".repeat(indent)}${name}${mayBeAbsent ? "?" : ""}: ${type};\n`;
  };

  const define = (table: Table<Keys>, prefix: string): void => {
    const name = table.name!;
    if (found.has(name)) return;
    found.set(name, "");
    found.set(
      name,
      `\n${comment(INTERFACES[name]!, 0)}export interface ${name} {\n${fields(table, prefix, 2)}}\n`,
    );
  };
  define(SCHEMA.table!, "");
  return HEAD + [...found.values()].join("");
}

function comment(text: string, indent: number): string {
  const pad = " ".repeat(indent);
  const lines = wrap(text, 0, 110 - indent - 3).split("\n");
  if (lines.length === 1 && lines[0]!.length + indent + 7 <= 110) return `${pad}/** ${lines[0]} */\n`;
  return `${pad}/**\n${lines.map((line) => `${pad} * ${line}\n`).join("")}${pad} */\n`;
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
