// `proxy check`: loads all that a run would load, prints what it understood, opens no port.

import { PolicyError } from "../engine/policy-tests.ts";
import { unresolved } from "../upstreams/name-resolution.ts";
import { DONE, print, type Command } from "./command.ts";
import { differences } from "./differences.ts";
import { FLAGS } from "./flags.ts";
import { marks } from "./marks.ts";
import { ADDRESS, PRECEDENCE, loggerFor, openProxy } from "./open.ts";
import { summary } from "./summary.ts";
import { testReport } from "./test-report.ts";

export const check: Command = {
  usage: "check [ADDRESS] [FLAGS]",
  summary: "Check the configuration and its files, print a summary, open no port",
  words: ADDRESS,
  flags: FLAGS,
  examples: ["check --config proxy.toml"],
  notes: PRECEDENCE,
  async run({ flags }) {
    const { proxy, written } = await openProxy(flags, loggerFor(flags)).catch((error: unknown) => {
      const { cause } = error as { cause?: unknown };
      if (cause instanceof PolicyError) print(testReport(cause.results, marks()).join("\n"));
      throw error;
    });
    const { config, warnings, expiries, tests } = proxy;
    const all = [...warnings, ...(await unresolved(config))];
    print(summary(config, { warnings: all, expiries, differences: differences(written) }));
    for (const line of testReport(tests, marks())) print(line);
    return DONE;
  },
};
