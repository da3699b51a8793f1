// Which rows of the counters belong to a configuration: its upstreams, their groups, and each way from a listener to an
// upstream. Over reloads a thing keeps its row, and with it its counts.

import { countedGroups } from "../auth/access.ts";
import type { Config } from "../config/config.ts";
import { ConfigError } from "../lib/errors.ts";
import { ROOM } from "../state/counters.ts";
import type { Ledger } from "../state/ledger.ts";
import { Rows } from "../state/rows.ts";

/** The rows of a configuration. */
export interface RowNumbers {
  /** By the upstream's name. */
  readonly upstreams: ReadonlyMap<string, number>;
  /** By the upstream's name, then by group. */
  readonly groups: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** For each port by the upstream's name; `""` where a connection got no further than the listener. */
  readonly routes: readonly ReadonlyMap<string, number>[];
}

/** The directory of rows, kept by the thread that reads the configuration. */
export class CounterRows {
  readonly #upstreams: Rows;
  readonly #groups: Rows;
  readonly #routes: Rows;

  constructor({ counters, upstreams }: Ledger) {
    const { isOpen, resetUpstream, resetGroup, resetRoute } = counters;
    const isBusy = () => false;
    const isInUse = (row: number) => isOpen(row) || upstreams.total[row] !== 0;
    this.#upstreams = new Rows({ size: ROOM.upstreams, isBusy: isInUse, reset: resetUpstream });
    this.#groups = new Rows({ size: ROOM.groups, isBusy, reset: resetGroup });
    this.#routes = new Rows({ size: ROOM.routes, isBusy, reset: resetRoute });
  }

  /**
   * Checks that {@link assign} has room; nothing changes.
   * @throws ConfigError where it has none
   */
  check(config: Pick<Config, "listeners" | "upstreams">, pairs: readonly (number | undefined)[]): void {
    const { names, groups, routes } = keysOf(config, pairs);
    if (!this.#upstreams.fits(names)) tooMany("upstreams");
    if (!this.#groups.fits(groups)) tooMany("groups");
    if (!this.#routes.fits(routes)) tooMany("pairs of a listener and an upstream");
  }

  /**
   * @param pairs for each port the place of its listener; undefined where it has none any more
   * @throws ConfigError where there is no room for so many
   */
  assign(
    { listeners, upstreams }: Pick<Config, "listeners" | "upstreams">,
    pairs: readonly (number | undefined)[],
  ): RowNumbers {
    const { names, groups, routes, reached } = keysOf({ listeners, upstreams }, pairs);
    const rows = {
      upstreams: this.#upstreams.assign(names) ?? tooMany("upstreams"),
      groups: this.#groups.assign(groups) ?? tooMany("groups"),
      routes: this.#routes.assign(routes) ?? tooMany("pairs of a listener and an upstream"),
    };
    return {
      upstreams: rows.upstreams,
      groups: new Map(
        upstreams.map((upstream) => [
          upstream.name,
          new Map(
            countedGroups(upstream).map((group) => [
              group,
              rows.groups.get(`${upstream.name}\n${group}`) as number,
            ]),
          ),
        ]),
      ),
      routes: reached.map(
        (each, port) => new Map(each.map((name) => [name, rows.routes.get(`${port}\n${name}`) as number])),
      ),
    };
  }
}

/** What has a row in a configuration, and which upstreams each port reaches. */
function keysOf(
  { listeners, upstreams }: Pick<Config, "listeners" | "upstreams">,
  pairs: readonly (number | undefined)[],
) {
  const names = upstreams.map(({ name }) => name);
  const reached = pairs.map((place) => {
    const pin = place === undefined ? undefined : listeners[place]?.upstream;
    return place === undefined ? [] : ["", ...(pin === undefined ? names : [pin])];
  });
  const groups = upstreams.flatMap((upstream) =>
    countedGroups(upstream).map((group) => `${upstream.name}\n${group}`),
  );
  const routes = reached.flatMap((each, port) => each.map((name) => `${port}\n${name}`));
  return { names, groups, routes, reached };
}

function tooMany(what: string): never {
  throw new ConfigError([{ key: "upstreams", problem: `there are more ${what} than there is room for` }]);
}
