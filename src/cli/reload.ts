// `proxy reload`: has a running proxy read its configuration and files again, and waits for the result.

import { AdminClient, CHANGE, CLIENT_EXIT_CODES, CLIENT_FLAGS } from "./admin-client.ts";
import type { Forecast } from "../engine/reload-plan.ts";
import { forecastText } from "./forecast-text.ts";
import { DONE, type Command } from "./command.ts";
import { jsonLine, printLines } from "./output.ts";

interface Reloaded {
  readonly reloadedAt: string;
  readonly keys: string;
  readonly files: string;
}

export const reload: Command = {
  usage: "reload [FLAGS]",
  summary: "Read the configuration and its files again, as SIGHUP does, and wait",
  group: CHANGE,
  flags: {
    "dry-run": {
      type: "boolean",
      description: "change nothing; say what would change and which connections would end",
    },
    ...CLIENT_FLAGS,
  },
  examples: ["reload", "reload --dry-run"],
  exitCodes: CLIENT_EXIT_CODES,
  async run({ flags, switches }) {
    const client = await AdminClient.find(flags);
    if (switches.has("dry-run")) {
      const change = { method: "POST", query: { dryRun: "" } } as const;
      const forecast = await client.change<Forecast>("/v1/reload", change);
      await printLines([switches.has("json") ? jsonLine(forecast) : forecastText(forecast)]);
      return DONE;
    }
    const answer = await client.change<Reloaded>("/v1/reload", { method: "POST" });
    const { keys, files } = answer;
    await printLines([
      switches.has("json") ? jsonLine(answer) : `reloaded; changed keys: ${keys}; changed files: ${files}`,
    ]);
    return DONE;
  },
};
