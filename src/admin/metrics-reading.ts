// Reads the metrics off a running proxy. Labels come from the configuration and from fixed lists; the clients of
// `topClients` are the one exception.

import { countedGroups } from "../auth/access.ts";
import { SHADOW_REASONS, shadowCounts } from "../connection/shadow-counts.ts";
import type { Config } from "../config/config.ts";
import { pairPorts } from "../engine/snapshot.ts";
import { formatAddress } from "../lib/address.ts";
import { STORE_ERRORS } from "../fleet/measures.ts";
import { monotonic } from "../lib/clock.ts";
import { processUsage } from "../lib/process-usage.ts";
import { CLOSE_REASONS, REFUSAL_REASONS, type RefusalReason } from "../lib/reasons.ts";
import { droppedLines } from "../lib/stderr.ts";
import type { Histogram } from "../state/counters.ts";
import { METRICS, linesOf, type Metric, type MetricName } from "./metrics-list.ts";
import type { Reading, Samples } from "./metrics-text.ts";
import { ACTIONS, RESULTS } from "./requests.ts";
import { columnsOf } from "./threads.ts";
import type { Subject } from "./subject.ts";

const REFUSALS = Object.keys(REFUSAL_REASONS) as RefusalReason[];
const CLOSES = Object.keys(CLOSE_REASONS);
const WITHIN = ["1h", "1d", "7d"];
const EXPIRING_KINDS = ["server", "ca", "crl"] as const;

/** Reasons for which a client is refused once its upstream is known. */
const ROUTED: ReadonlySet<RefusalReason> = new Set<RefusalReason>([
  "group_not_authorized",
  "connection_limit",
  "rate_limited",
  "overloaded",
  "no_target",
  "proxy_header",
]);

type Sample = Samples[number];

/** All metrics but those of the clients, at this moment. */
export function readMetrics(subject: Subject): Reading {
  const { reloads, config, ledger, requests } = subject;
  const usage = processUsage();
  return {
    build_info: [[[subject.version, `bun ${Bun.version}`], 1]],
    config_last_reload_successful: [[[], reloads.faults.length === 0 ? 1 : 0]],
    config_last_reload_success_timestamp_seconds: [[[], reloads.succeededAt / 1_000]],
    reloads_total: [
      [["success"], reloads.succeeded],
      [["refused"], reloads.refused],
    ],
    ...listenersOf(subject),
    ...upstreamsOf(subject),
    connections_limit: [[[], subject.maxConnections]],
    clients_tracked: [[[], ledger.clients.size]],
    clients_tracked_limit: [[[], ledger.memory.shape.clients]],
    certificate_expiry_timestamp_seconds: expiriesOf(subject),
    open_client_certificates_expiring: ledger.counters
      .readExpiring()
      .map((count, i): Sample => [[WITHIN[i] as string], count]),
    event_loop_lag_seconds: columnsOf(subject).map((column, worker): Sample => [
      [String(worker)],
      ledger.counters.readThread(column).lag,
    ]),
    log_lines_dropped_total: [[[], droppedLines()]],
    shadow_decisions_total: config.shadow === undefined ? [] : shadowOf(subject),
    blocks_active: [[[], activeBlocks(subject.blocks)]],
    admin_requests_total: config.admin === undefined ? [] : requestsOf(requests),
    ...fleetOf(subject),
    process_cpu_seconds_total: [[[], usage.cpuSeconds]],
    process_resident_memory_bytes: [[[], usage.residentBytes]],
    process_virtual_memory_bytes: known(usage.virtualBytes),
    process_start_time_seconds: [[[], usage.startedAt]],
    process_open_fds: known(usage.openDescriptors),
    process_max_fds: [[[], usage.maxDescriptors]],
  };
}

function fleetOf({ fleet }: Subject): Reading {
  const status = fleet.status();
  if (status === undefined) return {};
  const { up, degraded, nodes, durations, errors } = status;
  return {
    fleet_store_up: [[[], up ? 1 : 0]],
    fleet_degraded: [[[], degraded ? 1 : 0]],
    fleet_nodes: [[[], nodes.length]],
    fleet_request_duration_seconds: [[[], { counts: durations.counts, sum: durations.sum * 1_000 }]],
    fleet_errors_total: STORE_ERRORS.map((kind): Sample => [[kind], errors[kind]]),
  };
}

function shadowOf({ ledger, rows }: Subject): Samples {
  return shadowCounts(ledger.counters, rows.upstreams).map(
    ({ upstream, enforced, shadow, reason, count }): Sample => [[upstream, enforced, shadow, reason], count],
  );
}

function activeBlocks(blocks: Subject["blocks"]): number {
  const now = Date.now();
  return blocks.filter(({ until = Infinity }) => now < until).length;
}

function known(value: number | undefined): Samples {
  return value === undefined ? [] : [[[], value]];
}

function requestsOf(requests: Subject["requests"]): Samples {
  return ACTIONS.flatMap((action) =>
    RESULTS.map((result): Sample => [[action, result], requests.read(action, result)]),
  );
}

/** The ports that are open, by address: where the system picks their numbers, several are configured with the same. */
function portsByAddress({ ports }: Subject): Map<string, number[]> {
  const found = new Map<string, number[]>();
  ports.forEach((port, i) => {
    if (port === undefined) return;
    const address = formatAddress(port.address);
    found.set(address, [...(found.get(address) ?? []), i]);
  });
  return found;
}

function listenersOf(subject: Subject): Reading {
  const { counters } = subject.ledger;
  const { routes } = subject.rows;
  const accepted: Sample[] = [];
  const handshaking: Sample[] = [];
  const duration: Sample[] = [];
  const refusals: Sample[] = [];
  for (const [address, ports] of portsByAddress(subject)) {
    const all = ports.map((port) => counters.readListener(port));
    accepted.push([[address], total(all.map((each) => each.accepted))]);
    handshaking.push([[address], total(all.map((each) => each.handshaking))]);
    duration.push([[address, "false"], merged(all.map(({ full }) => full))]);
    duration.push([[address, "true"], merged(all.map(({ resumed }) => resumed))]);
    const names = new Set(ports.flatMap((port) => [...(routes[port]?.keys() ?? [])]));
    for (const name of names) {
      const rows = ports.flatMap((port) => routes[port]?.get(name) ?? []);
      const counts = rows.map((row) => counters.readRoute(row, REFUSALS.length));
      REFUSALS.forEach((reason, i) => {
        const count = total(counts.map((each) => each[i] as number));
        // Others are counted without an upstream.
        if (name === "" || ROUTED.has(reason) || count > 0) refusals.push([[address, name, reason], count]);
      });
    }
  }
  return {
    connections_accepted_total: accepted,
    handshakes_in_progress: handshaking,
    handshake_duration_seconds: duration,
    refusals_total: refusals,
  };
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, each) => sum + each, 0);
}

function merged(histograms: readonly Histogram[]): Histogram {
  const [first, ...more] = histograms as [Histogram, ...Histogram[]];
  if (more.length === 0) return first;
  return {
    counts: first.counts.map((count, i) => count + total(more.map(({ counts }) => counts[i] as number))),
    sum: total(histograms.map(({ sum }) => sum)),
  };
}

function upstreamsOf({ pools, ledger: { counters } }: Subject): Reading {
  const found = {
    admissions_total: [] as Sample[],
    connections_open: [] as Sample[],
    upstream_connections_limit: [] as Sample[],
    connections_closed_total: [] as Sample[],
    connection_duration_seconds: [] as Sample[],
    received_bytes_total: [] as Sample[],
    sent_bytes_total: [] as Sample[],
    target_connections_open: [] as Sample[],
    target_connections_limit: [] as Sample[],
    target_up: [] as Sample[],
    target_draining: [] as Sample[],
    target_weight: [] as Sample[],
    target_connect_duration_seconds: [] as Sample[],
    target_connect_failures_total: [] as Sample[],
  } satisfies Reading;
  const now = monotonic();
  for (const [
    name,
    {
      upstream: { maxConnections: most },
      row,
      groups,
      targets,
      balancer,
    },
  ] of pools) {
    const own = [name];
    const upstream = counters.readUpstream(row, CLOSES.length);
    for (const [group, cell] of groups)
      found.admissions_total.push([[name, group], counters.readGroup(cell)]);
    found.connections_open.push([own, upstream.open]);
    if (most !== undefined) found.upstream_connections_limit.push([own, most]);
    CLOSES.forEach((reason, i) =>
      found.connections_closed_total.push([[name, reason], upstream.closed[i] as number]),
    );
    found.connection_duration_seconds.push([own, upstream.duration]);
    found.received_bytes_total.push([own, upstream.received]);
    found.sent_bytes_total.push([own, upstream.sent]);
    for (const [slot, { address, weight, maxConnections }] of targets) {
      const labels = [name, formatAddress(address)];
      const { failures, connect } = counters.readTarget(slot);
      const health = balancer.health(slot, now);
      found.target_connections_open.push([labels, balancer.open(slot)]);
      if (maxConnections !== undefined) found.target_connections_limit.push([labels, maxConnections]);
      found.target_up.push([labels, health === "down" || health === "ejected" ? 0 : 1]);
      const override = balancer.override(slot);
      found.target_draining.push([labels, override.draining ? 1 : 0]);
      found.target_weight.push([labels, override.weight ?? weight]);
      found.target_connect_duration_seconds.push([labels, connect]);
      found.target_connect_failures_total.push([labels, failures]);
    }
  }
  return found;
}

/** The earliest of each kind, for each listener. What never expires has no date to show. */
function expiriesOf(subject: Subject): Samples {
  const { ports, config, expiries } = subject;
  const places = pairPorts(ports, config.listeners);
  return Array.from(portsByAddress(subject)).flatMap(([address, open]) => {
    const all = open.flatMap((port) => expiries[places[port] ?? -1] ?? []);
    return EXPIRING_KINDS.flatMap((kind): Samples => {
      const until = Math.min(...all.filter((each) => each.kind === kind).map((each) => each.until));
      return until === Infinity ? [] : [[[address, kind], until / 1_000]];
    });
  });
}

const NO_FLEET = {
  fleet_store_up: 0,
  fleet_degraded: 0,
  fleet_nodes: 0,
  fleet_request_duration_seconds: 0,
  fleet_errors_total: 0,
} as const satisfies Partial<Record<MetricName, number>>;

/** How many series a proxy with this configuration can have, at most. */
export function seriesOf({ listeners, upstreams, workers, metrics, admin, shadow, fleet }: Config): number {
  const addresses = new Set(listeners.map(({ address }) => formatAddress(address))).size;
  const routes = total(listeners.map(({ upstream }) => (upstream === undefined ? upstreams.length : 1)));
  const targets = total(upstreams.map((each) => each.targets.length));
  const sets: Partial<Record<MetricName, number>> = {
    reloads_total: 2,
    connections_accepted_total: addresses,
    handshakes_in_progress: addresses,
    handshake_duration_seconds: addresses * 2,
    admissions_total: total(upstreams.map((upstream) => countedGroups(upstream).length)),
    refusals_total: addresses * REFUSALS.length + routes * ROUTED.size,
    upstream_connections_limit: upstreams.filter(({ maxConnections: most }) => most !== undefined).length,
    target_connections_limit: total(
      upstreams.map((each) => each.targets.filter(({ maxConnections: most }) => most !== undefined).length),
    ),
    connections_closed_total: upstreams.length * CLOSES.length,
    top_client_connections_open: metrics?.topClients ?? 0,
    certificate_expiry_timestamp_seconds: addresses * EXPIRING_KINDS.length,
    open_client_certificates_expiring: WITHIN.length,
    event_loop_lag_seconds: workers,
    shadow_decisions_total: shadow === undefined ? 0 : (upstreams.length + 1) * 4 * SHADOW_REASONS.length,
    admin_requests_total: admin === undefined ? 0 : ACTIONS.length * RESULTS.length,
    ...(fleet === undefined ? NO_FLEET : { fleet_errors_total: STORE_ERRORS.length }),
  };
  return total(
    Object.entries<Metric>(METRICS).map(([name, metric]) => {
      const { labels } = metric;
      const usual = labels.includes("target") ? targets : labels.includes("upstream") ? upstreams.length : 1;
      return linesOf(metric) * (sets[name as MetricName] ?? usual);
    }),
  );
}
