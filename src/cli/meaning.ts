// What a reason means, in the few words that fit beside others. Pure.

import { CLOSE_REASONS, REFUSAL_REASONS, type Reason } from "../lib/reasons.ts";

/** The first sentence, or nothing for a code that this version does not know. */
export function meaningOf(kind: "refused" | "closed", reason: string): string {
  const codes: Readonly<Record<string, Reason>> = kind === "refused" ? REFUSAL_REASONS : CLOSE_REASONS;
  if (!Object.hasOwn(codes, reason)) return "";
  return (codes[reason] as Reason).meaning.replaceAll("`", "").replace(/\. .*$/, ".");
}
