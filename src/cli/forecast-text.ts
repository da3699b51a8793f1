// What a dry run of a reload prints for people. Pure.

import type { Comings, Forecast } from "../engine/reload-plan.ts";
import { formatDuration } from "../lib/duration.ts";
import { escapeInvisible } from "../lib/errors.ts";

/** How many connections are listed. */
const MAX_ROWS = 50;

export function forecastText(forecast: Forecast): string {
  const { changed, targets, listeners, restarts, warnings, endings, graceMs } = forecast;
  const reasons = Map.groupBy(endings, ({ reason }) => reason);
  const spread = graceMs > 0 ? `, within ${formatDuration(graceMs)}` : "";
  const sums = [...reasons].map(([reason, list]) => `${list.length} ${reason}`).join(", ");
  const rows = endings.slice(0, MAX_ROWS);
  const more = endings.length - rows.length;
  return [
    `keys that change: ${listOf(changed.keys)}`,
    `files that changed: ${listOf(changed.files)}`,
    ...comings("target", targets),
    ...comings("listener", listeners),
    ...restarts.map(({ key, running, configured }) => `needs a restart: ${key}, ${running} to ${configured}`),
    ...warnings.map((warning) => `warning: ${warning}`),
    endings.length === 0
      ? "no open connection would end"
      : `open connections that would end${spread}: ${endings.length} (${sums})`,
    ...rows.map(
      ({ id, client, upstream, remote, reason }) => `  ${id}  ${client}  ${upstream}  ${remote}  ${reason}`,
    ),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ]
    .map(escapeInvisible)
    .join("\n");
}

function listOf(names: readonly string[]): string {
  return names.join(", ") || "none";
}

function comings(what: string, { added, removed }: Comings): string[] {
  return [...added.map((each) => `+ ${what} ${each}`), ...removed.map((each) => `- ${what} ${each}`)];
}
