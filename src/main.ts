// The binary: runs its command line, prints errors, and ends the process. Nothing else ends it.

import { CommandError, FAILED, MISUSED } from "./cli/command.ts";
import { dispatch } from "./cli/dispatch.ts";
import { UsageError } from "./cli/flags.ts";
import { StartError } from "./lib/errors.ts";
import { flushLog } from "./lib/stderr.ts";

let code: number;
try {
  code = await dispatch(process.argv.slice(2));
} catch (error) {
  code = error instanceof UsageError ? MISUSED : FAILED;
  const message = error instanceof Error ? error.message : String(error);
  const isForPeople = [UsageError, StartError, CommandError].some((kind) => error instanceof kind);
  const what = isForPeople ? "" : "internal error: ";
  for (const line of message.split("\n")) process.stderr.write(`proxy: ${what}${line}\n`);
}
await flushLog();
process.exit(code);
