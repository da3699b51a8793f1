// Writes the files that are generated from the declarations: README.md beside this file, the TypeScript types in
// proxy-config.ts, and the reasons of the log in src/lib/README.md. Run it with `bun src/config/reference.ts`; a test
// fails when a file is not up to date.

import { CLOSE_REASONS, REFUSAL_REASONS, type Reason } from "../lib/reasons.ts";
import { typesText } from "./reference-types.ts";
import { DURATIONS, EDITORS, FILES, rows } from "./rows.ts";

/** The generated files, by their paths in the repository. */
export const GENERATED_FILES: Readonly<Record<string, () => string>> = {
  "src/config/README.md": configReadme,
  "src/config/proxy-config.ts": typesText,
  "src/lib/README.md": reasonsReadme,
};

const GENERATED = "<!-- Generated from the declarations: bun src/config/reference.ts -->";

function configReadme(): string {
  return (
    [
      "# Configuration keys",
      GENERATED,
      `${FILES} \`proxy help config\` prints this reference.`,
      DURATIONS,
      markdownTable(
        ["key", "type", "built-in value", "meaning"],
        rows().map(({ key, type, without, meaning }) => [`\`${key}\``, type, without, meaning]),
      ),
      "## In an editor",
      "`proxy schema > proxy.schema.json` writes a JSON Schema. With this line at the top of the configuration file, editors complete keys and check values:",
      markdownTable(
        ["language", "line"],
        EDITORS.map(([language, line]) => [language, `\`${line}\``]),
      ),
    ].join("\n\n") + "\n"
  );
}

function reasonsReadme(): string {
  const table = (reasons: Readonly<Record<string, Reason>>) =>
    markdownTable(
      ["reason", "meaning", "what to do"],
      Object.entries(reasons).map(([code, { meaning, remedy }]) => [`\`${code}\``, meaning, remedy]),
    );
  return (
    [
      "# Reasons in the log",
      GENERATED,
      "The codes are stable: dashboards and alerts can be built on them. `proxy help reasons` prints this list.",
      "## Why a connection was refused",
      table(REFUSAL_REASONS),
      "## Why an admitted connection ended",
      table(CLOSE_REASONS),
    ].join("\n\n") + "\n"
  );
}

function markdownTable(head: readonly string[], body: readonly (readonly string[])[]): string {
  const cells = [head, ...body].map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
  const lines = cells.map((row) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`);
  return lines.toSpliced(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`).join("\n");
}

if (import.meta.main) {
  const root = new URL("../../", import.meta.url).pathname;
  for (const [path, text] of Object.entries(GENERATED_FILES)) await Bun.write(root + path, text());
}
