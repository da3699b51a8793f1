// Every metric: its name, its kind, its labels, and what it says. `proxy help metrics` has the same table; a test compares them.

import { DURATION_BOUNDS } from "../fleet/measures.ts";
import { BOUNDS } from "../state/counters.ts";

/** Before every name but those of `process_`. */
const PREFIX = "tcpproxy_";

/** A metric without its values. */
export interface Metric {
  /** `info` is a gauge of 1 that only its labels matter of. */
  readonly kind: "counter" | "gauge" | "histogram" | "info";
  readonly labels: readonly string[];
  readonly help: string;
  /** Of a histogram, in milliseconds. */
  readonly bounds?: readonly number[];
}

const counter = (help: string, ...labels: string[]): Metric => ({ kind: "counter", labels, help });
const gauge = (help: string, ...labels: string[]): Metric => ({ kind: "gauge", labels, help });
const histogram = (bounds: readonly number[], help: string, ...labels: string[]): Metric => ({
  kind: "histogram",
  labels,
  help,
  bounds,
});

/** In the order in which they are shown. Metrics of new parts get their rows here. */
export const METRICS = {
  build_info: {
    kind: "info",
    labels: ["version", "runtime"],
    help: "The version of the proxy, and the runtime in it.",
  },
  config_last_reload_successful: gauge("1 if the last reload was applied, 0 if it was refused."),
  config_last_reload_success_timestamp_seconds: gauge(
    "When a configuration last came into force, at the start or by a reload.",
  ),
  reloads_total: counter("Reloads of the configuration.", "result"),
  connections_accepted_total: counter("Connections accepted, before TLS.", "listener"),
  handshakes_in_progress: gauge("Connections in their TLS handshake, waiting ones included.", "listener"),
  handshake_duration_seconds: histogram(
    BOUNDS.handshake,
    "Time from accept to the end of the TLS handshake, for clients whose certificate was verified.",
    "listener",
    "resumed",
  ),
  admissions_total: counter("Connections admitted, before a target is chosen.", "upstream", "group"),
  refusals_total: counter(
    "Connections refused, by reason. The upstream is empty where the client was refused before it was known.",
    "listener",
    "upstream",
    "reason",
  ),
  connections_open: gauge("Connections admitted and not over yet.", "upstream"),
  upstream_connections_limit: gauge(
    "The most connections to the upstream, where its maxConnections is set.",
    "upstream",
  ),
  connections_limit: gauge("The most connections of all clients together, handshakes included."),
  connections_closed_total: counter("Admitted connections that are over, by reason.", "upstream", "reason"),
  connection_duration_seconds: histogram(
    BOUNDS.duration,
    "Time from accept to the end, of admitted connections that are over.",
    "upstream",
  ),
  received_bytes_total: counter("Bytes from clients that a target has taken.", "upstream"),
  sent_bytes_total: counter("Bytes from targets that a client has taken.", "upstream"),
  target_connections_open: gauge(
    "Connections to the target, those being made included.",
    "upstream",
    "target",
  ),
  target_connections_limit: gauge(
    "The most connections to the target, where its maxConnections is set.",
    "upstream",
    "target",
  ),
  target_up: gauge("1 unless the target is down or ejected.", "upstream", "target"),
  target_draining: gauge("1 if the target gets no new connections.", "upstream", "target"),
  target_weight: gauge("The target's share of connections, against the others'.", "upstream", "target"),
  target_connect_duration_seconds: histogram(
    BOUNDS.connect,
    "Time to connect to the target, TLS included.",
    "upstream",
    "target",
  ),
  target_connect_failures_total: counter(
    "Attempts that failed: to connect, or by a reset of the target before the first byte.",
    "upstream",
    "target",
  ),
  clients_tracked: gauge("Clients that have a connection open or a bucket that is not full."),
  clients_tracked_limit: gauge("The most clients that can be tracked."),
  top_client_connections_open: gauge(
    "Open connections of the clients that have the most, where metrics.topClients is set.",
    "client",
  ),
  certificate_expiry_timestamp_seconds: gauge(
    "When the first of the proxy's certificate, the CAs, or the revocation lists expires.",
    "listener",
    "kind",
  ),
  open_client_certificates_expiring: gauge(
    "Open connections whose client certificate expires within the time. Counted every 10 seconds.",
    "within",
  ),
  event_loop_lag_seconds: histogram(
    BOUNDS.lag,
    "By how much a thread missed the time at which it was to run, measured four times a second.",
    "worker",
  ),
  log_lines_dropped_total: counter("Log lines that were dropped because their reader had stalled or left."),
  shadow_decisions_total: counter(
    "Decisions that the configuration in force and the shadow have both made. The reason is that of the one which refuses, the shadow's first.",
    "upstream",
    "enforced",
    "shadow",
    "reason",
  ),
  blocks_active: gauge("Blocks by operators that hold now."),
  admin_requests_total: counter("Requests of operators.", "action", "result"),
  fleet_store_up: gauge("1 while the fleet's store answers."),
  fleet_degraded: gauge("1 while this node decides without the fleet's store."),
  fleet_nodes: gauge("Nodes of the fleet that were heard of lately, this one included."),
  fleet_request_duration_seconds: histogram(
    DURATION_BOUNDS.map((seconds) => seconds * 1_000),
    "Time that the fleet's store took for a decision.",
  ),
  fleet_errors_total: counter("Answers of the fleet's store that were errors, or did not come.", "kind"),
  process_cpu_seconds_total: counter("CPU time used, user and system."),
  process_resident_memory_bytes: gauge("Resident memory."),
  process_virtual_memory_bytes: gauge("Virtual memory."),
  process_start_time_seconds: gauge("When the process started."),
  process_open_fds: gauge("Open file descriptors."),
  process_max_fds: gauge("The most file descriptors that can be open."),
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;

/** The name as it is scraped. */
export function scrapedName(name: string): string {
  return name.startsWith("process_") ? name : PREFIX + name;
}

/** How many series a metric has for each set of label values: as many lines as a scrape has. */
export function linesOf({ bounds }: Metric): number {
  // One for each bucket, the one without a bound included, the sum and the count.
  return bounds === undefined ? 1 : bounds.length + 3;
}
