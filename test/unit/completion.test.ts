// Completion in the shells themselves: what each of them offers for a command line that is half written.

import { describe, expect, test } from "bun:test";
import { bashScript, fishScript, zshScript } from "../../src/cli/completion-scripts.ts";
import { commandLine } from "../../src/cli/dispatch.ts";
import { Folder } from "../support/folder.ts";

const line = await commandLine();
const { run, commands: COMMANDS } = line;
const everywhere = ["--help", "--version"];

/** The words of a line, the last of which is half written, and what is offered among other things, or alone. */
const CASES: readonly { words: string[]; offers: string[]; not?: string[] }[] = [
  { words: ["ch"], offers: ["check"], not: ["connect"] },
  { words: ["co"], offers: ["connect", "completion"], not: ["check"] },
  { words: [""], offers: [...COMMANDS.keys()] },
  { words: ["--max"], offers: ["--max-connections"] },
  { words: ["--log-level", ""], offers: ["debug", "info", "warn", "error", "silent"], not: ["check"] },
  {
    words: ["connect", "--"],
    offers: Object.keys(COMMANDS.get("connect")!.flags).map((name) => `--${name}`),
    not: ["--targets"],
  },
  { words: ["connect", "host:1", "--stdio", "--log-f"], offers: ["--log-format"] },
  { words: ["completion", ""], offers: ["bash", "zsh", "fish"], not: ["check"] },
  { words: ["help", "re"], offers: ["reasons"], not: ["check"] },
  { words: ["check", "--config", "he"], offers: ["here.toml"], not: ["help"] },
];

const bash = Bun.which("bash");
const zsh = Bun.which("zsh");
const fish = Bun.which("fish");

async function offered(shell: string[], script: string, driver: string, words: string[]): Promise<string[]> {
  using folder = new Folder();
  await Bun.write(folder.path("script"), script);
  await Bun.write(folder.path("here.toml"), "");
  const { exitCode, stdout, stderr } = Bun.spawnSync([...shell, driver, ...words], {
    cwd: folder.path("."),
    env: { PATH: Bun.env.PATH ?? "", HOME: folder.path("."), TERM: "dumb" },
    stderr: "pipe",
  });
  expect({ exitCode, stderr: String(stderr) }).toEqual({ exitCode: 0, stderr: "" });
  return stdout
    .toString()
    .split("\n")
    .map((each) => each.split("\t")[0]!.trim());
}

function check(found: string[], { offers, not = [] }: (typeof CASES)[number]): void {
  for (const word of offers) expect(found).toContain(word);
  for (const word of not) expect(found).not.toContain(word);
}

describe.skipIf(bash === null)("bash", () => {
  const driver = `source ./script; COMP_WORDS=(proxy "$@"); COMP_CWORD=$#; _proxy; printf '%s\\n' "\${COMPREPLY[@]}"`;
  test.each(CASES)("completes $words", async (each) => {
    check(await offered([bash!, "--norc", "-c"], bashScript(line), driver, ["bash", ...each.words]), each);
  });
});

describe.skipIf(zsh === null)("zsh", () => {
  // What its completion system would be told: flags with a text in brackets, and lists of words.
  const driver = `
    _arguments() {
      for spec; do
        case $spec in (-S) continue ;; esac
        print -r -- \${spec%%\\[*}
        [[ $spec == *'('*')' ]] && print -l -- \${=\${\${spec##*\\(}%\\)}}
        [[ $spec == *:_files ]] && print -l -- *.toml
      done
    }
    source ./script; words=(proxy "$@"); CURRENT=$(( $# + 1 )); _proxy; true`;
  test.each(CASES)("knows what may stand in $words", async ({ words, offers }) => {
    const found = await offered([zsh!, "-f", "-c"], zshScript(line), driver, ["zsh", ...words]);
    check(found, { words, offers });
  });
});

describe.skipIf(fish === null)("fish", () => {
  const driver = "source ./script; complete -C (string join ' ' -- proxy $argv)";
  test.each(CASES)("completes $words", async (each) => {
    check(await offered([fish!, "--no-config", "-c"], fishScript(line), driver, ["--", ...each.words]), each);
  });
});

test.each([
  ["bash", bashScript],
  ["zsh", zshScript],
  ["fish", fishScript],
] as const)("the script for %s has every command and every flag", (name, script) => {
  const text = script(line);
  for (const command of [run, ...COMMANDS.values()]) {
    const flags = [...Object.keys(command.flags).map((flag) => `--${flag}`), ...everywhere];
    for (const flag of flags) expect(text).toContain(name === "fish" ? `-l ${flag.slice(2)} ` : flag);
  }
  for (const command of COMMANDS.keys()) expect(text).toContain(command);
});
