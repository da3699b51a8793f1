// An event of the running proxy as a line for people, or two where the words about its reason need one of their own. Pure.

import type { LoggedEvent } from "../admin/api-types.ts";
import { bytes, cut, shown, span, widthOf } from "./human.ts";
import { meaningOf } from "./meaning.ts";

/** The fewest columns in which words about a reason are of use. */
const WORDS_LEAST = 20;

/** As wide as the time and the space behind it. */
const INDENT = " ".repeat(9);

export function eventLines(event: LoggedEvent, width: number): string[] {
  const text = `${timeOf(event)} ${detailsOf(event)}`;
  const room = width - widthOf(text) - 2;
  const words = wordsFor(event);
  if (words === "") return [cut(text, width)];
  if (room >= WORDS_LEAST) return [`${text}  ${cut(words, room)}`];
  return [cut(text, width), cut(`${INDENT}${words}`, width)];
}

/** Of the day, where the reader is. */
function timeOf({ time }: LoggedEvent): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "--:--:--" : date.toTimeString().slice(0, 8);
}

function detailsOf(event: LoggedEvent): string {
  switch (event.msg) {
    case "refused":
      return refused(event);
    case "closed":
      return closed(event);
    default:
      return other(event);
  }
}

function refused({ reason, count, client, claimed, remote, upstream }: LoggedEvent): string {
  const who = client ?? (claimed === undefined ? undefined : `(claims ${claimed})`);
  return [
    `refused ${shown(reason)}`,
    ...(count === undefined ? [] : [`${shown(count)} times`]),
    ...(who === undefined ? [] : [shown(who)]),
    `from ${shown(remote)}`,
    ...(upstream === undefined ? [] : [`to ${shown(upstream)}`]),
  ].join(" ");
}

function closed({ reason, client, remote, upstream, target, durationMs, ...more }: LoggedEvent): string {
  const moved = `${bytes(Number(more.bytesIn))} in, ${bytes(Number(more.bytesOut))} out`;
  return `ended ${shown(reason)} ${shown(client)} from ${shown(remote)} to ${shown(upstream)} ${shown(target)} after ${span(Number(durationMs))}, ${moved}`;
}

function other({ time: _, level, msg, ...fields }: LoggedEvent): string {
  const pairs = Object.entries(fields).map(([key, value]) => ` ${shown(key)}=${shown(value)}`);
  const loud = level === "warn" || level === "error" ? `${level}: ` : "";
  return `${loud}${shown(msg)}${pairs.join("")}`;
}

/** What the reason means, and the particulars before it; an orderly end needs no words. */
function wordsFor({ msg, reason, detail }: LoggedEvent): string {
  if ((msg !== "refused" && msg !== "closed") || typeof reason !== "string" || reason === "closed") return "";
  const words = [detail === undefined ? "" : shown(detail), meaningOf(msg, reason)];
  return words.filter((each) => each !== "").join(": ");
}
