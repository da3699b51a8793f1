// Which listener of a configuration a question is about. Pure.

import { formatAddress, parseListener } from "../lib/address.ts";
import { quote } from "../lib/errors.ts";
import type { Config } from "./config.ts";

/**
 * @param address as it is written; undefined if the question leaves it open
 * @returns the listener's place in the configuration, or why there is none
 */
export function listenerFor(
  { listeners }: Pick<Config, "listeners">,
  address: string | undefined,
): number | { readonly problem: string } {
  const all = listeners.map((each) => formatAddress(each.address));
  const known = all.map(quote).join(", ");
  if (address === undefined) {
    return all.length === 1 ? 0 : { problem: `is missing; there are several listeners: ${known}` };
  }
  const parsed = parseListener(address);
  const found = parsed === undefined ? -1 : all.indexOf(formatAddress(parsed));
  return found === -1 ? { problem: `${quote(address)} is no listener's address; there is ${known}` } : found;
}
