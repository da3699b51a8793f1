// What `proxy help config` and `proxy help reasons` print: plain text of at most 80 columns. Pure.

import { CLOSE_REASONS, REFUSAL_REASONS, type Reason } from "../lib/reasons.ts";
import { wrap } from "../lib/wrap.ts";
import { DURATIONS, EDITORS, FILES, rows } from "./rows.ts";

export function configHelp(): string {
  return [
    "CONFIGURATION KEYS",
    paragraph(FILES),
    paragraph(DURATIONS),
    ...rows().map(({ key, type, without, meaning }) => {
      const fallback = without === "required" ? "required" : `built in: ${without}`;
      return `${key}\n${paragraph(`${type}; ${fallback}`, 4)}\n${paragraph(meaning, 4)}`;
    }),
    "IN AN EDITOR",
    paragraph(
      "`proxy schema > proxy.schema.json` writes a JSON Schema. With this line at the top of the configuration file, editors complete keys and check values:",
    ),
    EDITORS.map(([language, line]) => `    ${language}  ${line}`).join("\n"),
  ].join("\n\n");
}

export function reasonsHelp(): string {
  const all = (reasons: Readonly<Record<string, Reason>>) =>
    Object.entries(reasons).map(
      ([code, { meaning, remedy }]) =>
        `${code}\n${paragraph(meaning, 4)}\n${paragraph(`To do: ${remedy}`, 4)}`,
    );
  return [
    "WHY A CONNECTION WAS REFUSED",
    ...all(REFUSAL_REASONS),
    "WHY AN ADMITTED CONNECTION ENDED",
    ...all(CLOSE_REASONS),
  ].join("\n\n");
}

function paragraph(text: string, indent = 0): string {
  return wrap(text.replaceAll("`", ""), indent);
}
