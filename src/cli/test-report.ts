// How the tests of a configuration went, as a test runner prints it. Pure.

import type { TestResult } from "../engine/policy-tests.ts";
import { escapeInvisible } from "../lib/errors.ts";
import { columns } from "./columns.ts";
import { markOf, type Marks } from "./marks.ts";

/** Nothing if there are no tests. */
export function testReport(results: readonly TestResult[], marks: Marks): string[] {
  if (results.length === 0) return [];
  const failed = results.filter(({ passed }) => !passed).length;
  const rows = results.map(({ title, expected, got, passed }): [string, string] => [
    markOf(passed, marks),
    escapeInvisible(`${title}: ${passed ? got : `expected ${expected}, got ${got}`}`),
  ]);
  const passed = `${results.length - failed} passed`;
  return [`tests: ${failed === 0 ? passed : `${passed}, ${failed} failed`}`, ...columns(rows, 4)];
}
