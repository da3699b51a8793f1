// The scripts of `proxy completion`, made from the tables that the help is made from. Pure.

import type { Command } from "./command.ts";
import type { Flag } from "./flags.ts";

/** All that a command line can begin with. */
export interface CommandLine {
  /** What runs without a command. */
  readonly run: Command;
  readonly commands: ReadonlyMap<string, Command>;
}

/** A flag, and how its value is completed. */
interface Row {
  readonly name: string;
  readonly description: string;
  readonly hint: string | undefined;
  readonly values: "none" | "files" | "any" | readonly string[];
}

const COMMON: readonly Row[] = [
  { name: "help", description: "print this help", hint: undefined, values: "none" },
  { name: "version", description: "print the version", hint: undefined, values: "none" },
];

function rowsOf({ flags }: Command): Row[] {
  const rows = Object.entries<Flag>(flags).map(([name, flag]): Row => ({
    name,
    description: flag.description,
    ...(flag.type === "boolean"
      ? { hint: undefined, values: "none" }
      : { hint: flag.valueHint, values: flag.choices ?? (flag.valueHint === "FILE" ? "files" : "any") }),
  }));
  return [...rows, ...COMMON];
}

/** Without a command first, under the name "". */
function all({ run, commands }: CommandLine): [string, Command][] {
  return [["", run], ...commands];
}

function wordsOf(name: string, { words }: Command, { commands }: CommandLine): readonly string[] {
  return name === "" ? [...commands.keys()] : (words?.choices ?? []);
}

/** The shells differ little in how they find the command: the first word that is one. */
const names = ({ commands }: CommandLine) => [...commands.keys()].join("|");

export function bashScript(line: CommandLine): string {
  const valueCases = all(line).flatMap(([name, command]) =>
    rowsOf(command).flatMap(({ name: flag, values }) => {
      if (values === "none") return [];
      const reply =
        values === "files"
          ? '$(compgen -f -- "$cur")'
          : values === "any"
            ? ""
            : `$(compgen -W "${values.join(" ")}" -- "$cur")`;
      return [`    "${name} --${flag}") COMPREPLY=(${reply}); return ;;`];
    }),
  );
  const wordCases = all(line).map(([name, command]) => {
    const flags = rowsOf(command).map(({ name: flag }) => `--${flag}`);
    const list = [...wordsOf(name, command, line), ...flags].join(" ");
    return `    "${name}") COMPREPLY=($(compgen -W "${list}" -- "$cur")) ;;`;
  });
  return `# Completes command lines of proxy in bash: source it, or put it into /etc/bash_completion.d.
_proxy() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} command= i IFS=$' \\t\\n'
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      --) return ;;
      ${names(line)}) [ -n "$command" ] || command=\${COMP_WORDS[i]} ;;
    esac
  done
  case "$command $prev" in
${valueCases.join("\n")}
  esac
  case "$command" in
${wordCases.join("\n")}
  esac
}
complete -o filenames -o bashdefault -F _proxy proxy
`;
}

export function zshScript(line: CommandLine): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const plain = (text: string) => text.replace(/[[\]:\\]/g, "\\$&");
  const specs = (name: string, command: Command) => {
    const flags = rowsOf(command).map(({ name: flag, description, hint = "", values }) => {
      const value =
        values === "none"
          ? ""
          : `:${plain(hint)}:${values === "files" ? "_files" : values === "any" ? "" : `(${values.join(" ")})`}`;
      return quoted(`--${flag}[${plain(description)}]${value}`);
    });
    const words = wordsOf(name, command, line);
    return [...flags, quoted(`*:word:(${words.join(" ")})`)].map((spec) => `        ${spec}`);
  };
  const cases = all(line).map(
    ([name, command]) => `    (${name === "" ? "''" : name})
      _arguments -S \\
${specs(name, command).join(" \\\n")}
      ;;`,
  );
  return `#compdef proxy
# Completes command lines of proxy in zsh: put it as _proxy into a folder of $fpath, or source it.
_proxy() {
  local command= i
  for ((i = 2; i < CURRENT; i++)); do
    case $words[i] in
      (--) return ;;
      (${names(line)}) [[ -n $command ]] || command=$words[i] ;;
    esac
  done
  case $command in
${cases.join("\n")}
  esac
}
if [[ $funcstack[1] == _proxy ]]; then
  _proxy "$@"
elif (( $+functions[compdef] )); then
  compdef _proxy proxy
fi
`;
}

export function fishScript(line: CommandLine): string {
  const quoted = (text: string) => `'${text.replace(/['\\]/g, "\\$&")}'`;
  const known = [...line.commands.keys()].join(" ");
  const lines = all(line).flatMap(([name, command]) => {
    const when =
      name === "" ? `not __fish_seen_subcommand_from ${known}` : `__fish_seen_subcommand_from ${name}`;
    const begin = `complete -c proxy -n ${quoted(when)}`;
    const words =
      name === ""
        ? [...line.commands].map(([word, { summary }]) => `${begin} -a ${word} -d ${quoted(summary)}`)
        : wordsOf(name, command, line).map((word) => `${begin} -a ${word}`);
    const flags = rowsOf(command).map(({ name: flag, description, values }) => {
      const value =
        values === "none"
          ? ""
          : values === "files"
            ? " -r -F"
            : values === "any"
              ? " -x"
              : ` -x -a ${quoted(values.join(" "))}`;
      return `${begin} -l ${flag}${value} -d ${quoted(description)}`;
    });
    return [...words, ...flags];
  });
  return `# Completes command lines of proxy in fish: put it into ~/.config/fish/completions/proxy.fish.
complete -c proxy -f
${lines.join("\n")}
`;
}
