// `proxy completion SHELL`: what a shell completes command lines with.

import { quote } from "../lib/errors.ts";
import { bashScript, fishScript, zshScript, type CommandLine } from "./completion-scripts.ts";
import { DONE, print, type Command } from "./command.ts";
import { UsageError } from "./flags.ts";

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const;
const SHELLS = Object.keys(SCRIPTS) as (keyof typeof SCRIPTS)[];

/** @param line loads all commands, and what runs without one */
export function completionCommand(line: () => Promise<CommandLine>): Command {
  return {
    usage: "completion SHELL",
    summary: "Print a script with which bash, zsh or fish complete command lines",
    words: { name: "SHELL", description: SHELLS.join(", "), most: 1, choices: SHELLS },
    flags: {},
    examples: ["completion bash > /etc/bash_completion.d/proxy"],
    async run({ words: [word] }) {
      const shell = SHELLS.find((each) => each === word);
      if (shell === undefined) {
        throw new UsageError(
          `${word === undefined ? "the shell is missing" : `${quote(word)} is no shell that is known`}; there are ${SHELLS.join(", ")}`,
        );
      }
      print(SCRIPTS[shell](await line()).trimEnd());
      return DONE;
    },
  };
}
