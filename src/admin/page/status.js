// The state, once a second: everything but the lists that are asked for.

const DAY_MS = 86_400_000;

const charts = {
  admitted: new Chart(byId("admitted-chart"), rate),
  refused: new Chart(byId("refused-chart"), rate),
  bytes: new Chart(byId("bytes-chart"), bytes),
};

/** The state before, with when it came. */
let last;

function showStatus(status) {
  const at = performance.now();
  showHead(status);
  showRight(status.right);
  showAttention(status);
  showFigures(status);
  showRates(status, at);
  showUpstreams(status.upstreams);
  showReload(status);
  showFleet(status.fleet);
  showCertificates(status.certificates);
  const reasons = Object.entries(status.refusals).sort(([, a], [, b]) => b - a);
  fill(
    byId("reasons"),
    reasons,
    ([reason]) => reason,
    createReason,
    (node, [, total]) => setText(node.lastChild, count(total)),
  );
  last = { at, status };
}

function showHead({ phase, version, runtime, uptimeMs, pid }) {
  setPhase(phase, { running: "good", draining: "warn" }[phase] ?? "");
  setText(byId("about"), `${version} on ${runtime} · up ${span(uptimeMs)} · process ${pid}`);
}

function setPhase(text, tone) {
  setText(byId("phase"), text);
  byId("phase").className = `pill ${tone}`;
  const title = `${text} · tcpproxy`;
  if (document.title !== title) document.title = title;
}

/** What somebody has to look at, if there is something. */
function showAttention({ reload, warnings, threads, logLinesDropped, fleet }) {
  const lines = [
    ...reload.faults.map(({ key, problem }) => ["bad", `Last reload: ${key ? `${key}: ` : ""}${problem}`]),
    ...threads
      .filter(({ alive }) => !alive)
      .map(({ thread }) => ["bad", `Thread ${thread} does not answer.`]),
    ...(fleet?.degraded
      ? [["bad", `The store of the fleet does not answer: ${fleet.node} decides alone.`]]
      : []),
    ...(logLinesDropped > 0 ? [["warn", `${count(logLinesDropped)} log lines were dropped.`]] : []),
    ...warnings.map((warning) => ["warn", warning]),
  ];
  byId("attention").hidden = lines.length === 0;
  fill(
    byId("attention-list"),
    lines,
    String,
    () => make("li"),
    (node, [tone, line]) => {
      node.className = tone;
      setText(node, line);
    },
  );
}

function showFigures({ connections: { open, limit }, clients, totals }) {
  setText(byId("open"), count(open));
  setText(byId("limit"), `of ${count(limit)}`);
  setBar(byId("open-bar"), open / limit, toneOf(open / limit));
  const { accepted, admitted, refused, bytesIn, bytesOut } = totals;
  setText(
    byId("totals"),
    `${count(clients.tracked)} clients. Since the start: ${count(accepted)} accepted, ${count(admitted)} admitted, ${count(refused)} refused; ${bytes(bytesIn)} in, ${bytes(bytesOut)} out.`,
  );
}

/** From the difference to the state before. A restart, or a listener that is gone, leaves a gap. */
function showRates({ startedAt, totals }, at) {
  const before = last?.status.startedAt === startedAt ? last : undefined;
  const perSecond = (of) => {
    if (before === undefined) return undefined;
    const difference = of(totals) - of(before.status.totals);
    return difference < 0 ? undefined : (difference * 1_000) / (at - before.at);
  };
  charts.admitted.add(
    at,
    perSecond(({ admitted }) => admitted),
  );
  charts.refused.add(
    at,
    perSecond(({ refused }) => refused),
  );
  charts.bytes.add(
    at,
    perSecond(({ bytesIn, bytesOut }) => bytesIn + bytesOut),
  );
}

function toneOf(share) {
  return share >= 0.95 ? "bad" : share >= 0.8 ? "warn" : "";
}

const HEALTH = { up: "good", starting: "", suspect: "warn", ejected: "bad", down: "bad" };

const targetColumns = [
  { title: "Target", kind: "name", text: ({ target, backup }) => (backup ? `${target} (backup)` : target) },
  {
    title: "State",
    text: ({ health, draining }) => (draining ? `${health}, draining` : health),
    tone: ({ health, draining }) => (draining && health === "up" ? "warn" : HEALTH[health]),
  },
  { title: "Share", share: ({ share }) => share },
  {
    title: "Open",
    kind: "number",
    text: openOf,
    tone: ({ open, maxConnections }) => toneOf(open / maxConnections),
  },
  { title: "Weight", kind: "number", text: ({ weight }) => weight },
  { title: "Failures", kind: "number", text: ({ failures }) => count(failures) },
  targetActions,
];

function openOf({ open, maxConnections: most }) {
  return most === undefined ? count(open) : `${count(open)} of ${count(most)}`;
}

function showUpstreams(upstreams) {
  const create = () => make("section", "", make("h2"), make("p", "facts quiet small"), make("table"));
  fill(
    byId("upstreams"),
    upstreams,
    ({ name }) => name,
    create,
    (node, upstream) => {
      const { name, admitted, refused, bytesIn, bytesOut, targets } = upstream;
      const [title, facts, table] = node.children;
      setText(title, `Upstream ${name}`);
      setText(
        facts,
        `${openOf(upstream)} open · ${count(admitted)} admitted · ${count(refused)} refused · ${bytes(bytesIn)} in · ${bytes(bytesOut)} out`,
      );
      const all = targets.reduce((sum, each) => sum + each.open, 0);
      const rows = targets.map((each) => ({ ...each, share: all === 0 ? 0 : each.open / all }));
      fillTable(table, targetColumns, rows, ({ target }) => target);
    },
  );
}

function showReload({ configFile, reload, listeners, startedAt }) {
  const { succeeded, refused, succeededAt, triedAt, faults } = reload;
  const facts = [
    ["File", configFile ?? "none", "name"],
    ["In force since", `${moment(succeededAt)} (${span(Date.now() - Date.parse(succeededAt))} ago)`],
    ["Last reload", lastReload(triedAt, faults), faults.length > 0 ? "bad" : ""],
    ["Reloads", `${count(succeeded)} succeeded, ${count(refused)} refused since ${moment(startedAt)}`],
    ...listeners.map(({ address, upstream, accepted, handshaking }) => [
      `Listener ${address}`,
      `${count(accepted)} accepted, ${count(handshaking)} in the handshake${upstream === undefined ? "" : `, for ${upstream}`}`,
    ]),
  ];
  fillFacts(byId("reload"), facts);
}

function showFleet(fleet) {
  byId("fleet-section").hidden = fleet === undefined;
  if (fleet === undefined) return;
  const { node, nodes, store, degraded, lastLatencyMs, errors } = fleet;
  const failed = Object.entries(errors).filter(([, times]) => times > 0);
  fillFacts(byId("fleet"), [
    ["This node", node, "name"],
    ["Nodes", `${count(nodes.length)}: ${nodes.join(", ")}`],
    ["Store", store, "name"],
    [
      "State",
      degraded ? "degraded: this node decides alone" : "the store decides",
      degraded ? "bad" : "good",
    ],
    ["Last decision", lastLatencyMs === undefined ? "none yet" : `${lastLatencyMs.toFixed(1)} ms`],
    ["Errors", failed.map(([kind, times]) => `${count(times)} × ${kind}`).join(", ") || "none"],
  ]);
}

function fillFacts(list, facts) {
  fill(
    list,
    facts.flatMap(toTerm),
    ({ key }) => key,
    ({ tag }) => make(tag),
    (node, { text, kind }) => {
      node.className = kind;
      setText(node, text);
    },
  );
}

function toTerm([term, text, kind = ""]) {
  return [
    { key: `dt ${term}`, tag: "dt", text: term, kind: "" },
    { key: `dd ${term}`, tag: "dd", text, kind },
  ];
}

function lastReload(triedAt, faults) {
  if (triedAt === undefined) return "none since the start";
  const result =
    faults.length === 0
      ? "succeeded"
      : `refused with ${count(faults.length)} ${faults.length === 1 ? "fault" : "faults"}; the one before is in force`;
  return `${moment(triedAt)}: ${result}`;
}

const certificateColumns = [
  { title: "What", text: ({ what }) => what.replaceAll("\\n", ", ") },
  { title: "Listener", kind: "name whole", text: ({ listener }) => listener },
  { title: "Ends", kind: "number", text: ({ notAfter }) => notAfter.slice(0, 10) },
  {
    title: "Left",
    kind: "number",
    text: ({ left }) => (left <= 0 ? "ended" : span(left)),
    tone: ({ left }) => (left < 7 * DAY_MS ? "bad" : left < 30 * DAY_MS ? "warn" : ""),
  },
];

function showCertificates(certificates) {
  const rows = certificates
    .map((each) => ({ ...each, left: Date.parse(each.notAfter) - Date.now() }))
    .sort((a, b) => a.left - b.left);
  const keyOf = ({ listener, kind, what, notAfter }) => [listener, kind, what, notAfter].join("\n");
  fillTable(byId("certificates"), certificateColumns, rows, keyOf);
}
