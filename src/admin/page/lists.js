// Connections and clients: asked for every few seconds, and as lists of bounded length.

/** Rows that are shown at most; the rest is counted. */
const MAX_ROWS = 500;
const MAX_CLIENTS = 10;

/** Between the end of one question and the next; a long answer is followed by a longer rest. */
const REFRESH_MS = 4_000;

const connectionColumns = [
  { title: "Client", kind: "name", text: ({ client }) => client },
  { title: "From", kind: "name whole", text: from },
  { title: "Upstream", kind: "name", text: ({ upstream }) => upstream },
  { title: "Target", kind: "name whole", text: ({ target }) => target },
  { title: "Open for", kind: "number", text: ({ ageMs }) => span(ageMs) },
  { title: "Idle", kind: "number", text: ({ idleMs }) => span(idleMs) },
  { title: "In", kind: "number", text: ({ bytesIn }) => bytes(bytesIn) },
  { title: "Out", kind: "number", text: ({ bytesOut }) => bytes(bytesOut) },
  {
    title: "Certificate left",
    kind: "number",
    text: ({ notAfter }) => span(Date.parse(notAfter) - Date.now()),
    tone: ({ notAfter }) => (Date.parse(notAfter) - Date.now() < 3_600_000 ? "warn" : ""),
  },
  connectionActions,
];

function from({ remote, peer }) {
  return peer === undefined ? remote : `${remote} via ${peer}`;
}

const clientColumns = [
  { title: "Client", kind: "name", text: ({ client }) => client },
  {
    title: "Open",
    kind: "number",
    text: openOf,
    tone: ({ open, maxConnections }) => toneOf(open / maxConnections),
  },
  {
    title: "Tokens left",
    kind: "number",
    text: ({ tokens, capacity }) =>
      tokens === undefined ? "unlimited" : `${count(tokens)} of ${count(capacity)}`,
    tone: ({ tokens, capacity }) => toneOf(1 - tokens / capacity),
  },
  { title: "Used", share: nearness, tone: (client) => toneOf(nearness(client)) },
  clientActions,
];

function nearness({ open, maxConnections, tokens, capacity }) {
  return Math.max(open / maxConnections || 0, 1 - tokens / capacity || 0);
}

/** A question to the proxy. */
async function ask(path, init) {
  const response = await fetch(path, { cache: "no-store", ...init });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

async function refreshClients() {
  const { clients } = await (await ask("/v1/clients")).json();
  fillTable(byId("clients"), clientColumns, clients.slice(0, MAX_CLIENTS), ({ client }) => client);
}

/** Only what is shown is kept, however many there are. */
async function refreshConnections(signal) {
  const wanted = byId("filter").value.trim().toLowerCase();
  const shown = [];
  let [matching, all] = [0, 0];
  for await (const line of linesOf(await ask("/v1/connections", { signal }))) {
    all++;
    const each = JSON.parse(line);
    const texts = [each.client, from(each), each.upstream, each.target ?? ""];
    if (!texts.some((text) => text.toLowerCase().includes(wanted))) continue;
    matching++;
    if (shown.length < MAX_ROWS) shown.push(each);
  }
  shown.sort((a, b) => a.ageMs - b.ageMs);
  fillTable(byId("connections"), connectionColumns, shown, ({ id }) => id);
  const hidden = matching - shown.length;
  const found = wanted === "" ? `${count(all)} open` : `${count(matching)} of ${count(all)} open`;
  setText(
    byId("shown"),
    hidden === 0 ? found : `${found}; ${count(shown.length)} shown, ${count(hidden)} not`,
  );
}

async function* linesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line !== "") yield line;
  }
}

let asking;
let timer;

/** Asks again, and then every few seconds while the page is in sight. */
async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const own = (asking = new AbortController());
  const from = performance.now();
  // One that fails is asked again; that the proxy is gone is said at the top.
  if (!document.hidden) await Promise.allSettled([refreshConnections(own.signal), refreshClients()]);
  if (own.signal.aborted) return;
  timer = setTimeout(refresh, Math.max(REFRESH_MS, 10 * (performance.now() - from)));
}

function refreshSoon(ms) {
  clearTimeout(timer);
  timer = setTimeout(refresh, ms);
}

byId("filter").addEventListener("input", () => refreshSoon(200));
byId("filter-form").addEventListener("submit", (event) => {
  event.preventDefault();
  refreshSoon(0);
});
document.addEventListener("visibilitychange", () => refreshSoon(0));
