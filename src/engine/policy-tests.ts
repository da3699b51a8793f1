// Runs the tests of a configuration: each asks the decision a question, and compares the answer. They need the files that
// the configuration names, and no proxy.

import { basename } from "node:path";
import { presenting, type Explanation } from "../connection/explanation.ts";
import type { Question } from "../connection/admission.ts";
import type { PolicyTest } from "../config/config.ts";
import { loadConfig, type LoadedConfig } from "../config/load.ts";
import { ConfigError, quote, type Fault } from "../lib/errors.ts";
import { explainOffline, offlineRules } from "./offline.ts";

/** How one test went. */
export interface TestResult {
  /** `tests[0]` */
  readonly key: string;
  /** Who asks for what. */
  readonly title: string;
  readonly expected: string;
  /** An upstream's name, or a reason of refusal. */
  readonly got: string;
  readonly passed: boolean;
  readonly explanation: Explanation;
}

/** A configuration fails its own tests. */
export class PolicyError extends ConfigError {
  /** Of all tests, in their order. */
  readonly results: readonly TestResult[];

  constructor(results: readonly TestResult[]) {
    super(results.filter(({ passed }) => !passed).map(faultOf));
    this.results = results;
  }
}

/**
 * Runs all tests, in steps.
 * @param now milliseconds since 1970, for tests that name no moment
 * @throws PolicyError if one fails
 */
export function* testPolicy(
  loaded: Pick<LoadedConfig, "config" | "credentials" | "maxConnections">,
  now: number,
): Generator<void, readonly TestResult[]> {
  const { config, credentials } = loaded;
  if (config.tests.length === 0) return [];
  const rules = offlineRules(loaded);
  const results: TestResult[] = [];
  for (const [i, test] of config.tests.entries()) {
    const { client, listener, serverName, from: address, at: date = now, expect: expected } = test;
    const from: Question["from"] =
      client === undefined
        ? presenting(credentials.tests[i] ?? [])
        : { client, group: client.slice(client.indexOf("@") + 1) };
    const explanation = explainOffline(rules, { listener, from, serverName, address, date });
    // An upstream may have the name of a reason.
    const { upstream, reason } = explanation;
    const got = upstream ?? reason ?? "";
    const isUpstream = config.upstreams.some(({ name }) => name === expected);
    const passed = isUpstream ? upstream === expected : reason === expected;
    results.push({ key: `tests[${i}]`, title: titleOf(test), expected, got, passed, explanation });
    yield;
  }
  if (results.some(({ passed }) => !passed)) throw new PolicyError(results);
  return results;
}

function titleOf({ client, certificate, serverName, from, at }: PolicyTest): string {
  return [
    quote(client ?? basename(certificate ?? "")),
    ...(serverName === undefined ? [] : [`to ${quote(serverName)}`]),
    ...(from === undefined ? [] : [`from ${from}`]),
    ...(at === undefined ? [] : [`at ${new Date(at).toISOString().replace(".000", "")}`]),
  ].join(" ");
}

function faultOf({ key, title, expected, got, explanation }: TestResult): Fault {
  const step = explanation.steps.find(({ ok }) => ok === false);
  const why = step === undefined ? "" : `: ${step.text}${step.key === undefined ? "" : ` (${step.key})`}`;
  return { key, problem: `${title}: expected ${quote(expected)}, got ${quote(got)}${why}` };
}

/** A configuration whose tests have passed. */
export type TestedConfig = LoadedConfig & { readonly tests: readonly TestResult[] };

/**
 * Loads a configuration and runs its tests.
 * @throws ConfigError that lists every fault, or every test that fails
 */
export function* loadTested(...given: Parameters<typeof loadConfig>): Generator<void, TestedConfig> {
  const loaded = yield* loadConfig(...given);
  return { ...loaded, tests: yield* testPolicy(loaded, Date.now()) };
}
