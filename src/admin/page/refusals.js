// Refusals as they come, each with what its reason means and what to do. REASONS stands before this script.

/** The most refusals that are shown. */
const MAX_REFUSALS = 60;

let recent = [];
let serial = 0;
let drawing = false;

function createReason([reason]) {
  const node = make("li", "", make("code", "", plain(reason)), " ", make("b", "number"));
  node.title = Object.hasOwn(REASONS, reason) ? REASONS[reason].meaning.replaceAll("`", "") : "";
  return node;
}

function addRefusal(event) {
  recent = [{ ...event, key: serial++ }, ...recent.slice(0, MAX_REFUSALS - 1)];
  if (drawing) return;
  // A burst is drawn once.
  drawing = true;
  setTimeout(() => {
    drawing = false;
    byId("refusals").classList.remove("none");
    fill(
      byId("refusals"),
      recent,
      ({ key }) => key,
      createRefusal,
      () => {},
    );
  }, 100);
}

function createRefusal(event) {
  const { id, time, reason, count: times, client, claimed, remote, upstream, serverName, detail } = event;
  const known = typeof reason === "string" && Object.hasOwn(REASONS, reason) ? REASONS[reason] : undefined;
  const who = client ?? claimed;
  const line = make(
    "div",
    "",
    make("time", "quiet", new Date(time).toTimeString().slice(0, 8)),
    " ",
    make("b", "", plain(reason)),
    ...(times === undefined || times === 1 ? [] : [` × ${plain(times)}`]),
    ...(who === undefined ? [] : [client === undefined ? " claims " : " ", make("span", "name", plain(who))]),
    " from ",
    make("span", "name", plain(remote)),
    ...(upstream === undefined ? [] : [" to ", make("span", "name", plain(upstream))]),
    ...(serverName === undefined ? [] : [" asking for ", make("span", "name", plain(serverName))]),
  );
  return make(
    "li",
    "",
    line,
    ...(detail === undefined ? [] : [make("div", "", plain(detail))]),
    ...(known === undefined ? [] : [make("div", "quiet", ...prose(`${known.meaning} ${known.remedy}`))]),
    ...(typeof id === "string" ? [explanationOf(id)] : []),
  );
}

/** What the proxy says about the refusal, once it is asked for. */
function explanationOf(id) {
  const steps = make("ul", "steps", make("li", "quiet", "Asking the proxy."));
  const node = make("details", "", make("summary", "", "Explain"), steps);
  node.addEventListener("toggle", () => {
    if (!node.open) return;
    send("POST", "/v1/explain", { id }).then(
      (explanation) => steps.replaceChildren(...explanation.steps.map(stepOf)),
      ({ message }) => steps.replaceChildren(make("li", "bad", plain(message))),
    );
  });
  return node;
}

function stepOf({ step, ok, text, key, remedy }) {
  const [mark, tone] = ok === undefined ? ["·", "quiet"] : ok ? ["✓", "good"] : ["✗", "bad"];
  return make(
    "li",
    "",
    make("span", tone, mark),
    ` ${plain(step)}: ${plain(text)}`,
    ...(key === undefined ? [] : [" ", make("code", "quiet", plain(key))]),
    ...(remedy === undefined ? [] : [make("div", "quiet", "→ ", ...prose(plain(remedy)))]),
  );
}
