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
  const { time, reason, count: times, client, claimed, remote, upstream, serverName, detail } = event;
  const known = typeof reason === "string" && Object.hasOwn(REASONS, reason) ? REASONS[reason] : undefined;
  const who = client ?? claimed;
  const line = make(
    "div",
    "",
    make("time", "quiet", new Date(time).toTimeString().slice(0, 8)),
    " ",
    make("b", "", plain(reason)),
    ...(times === undefined ? [] : [` × ${plain(times)}`]),
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
  );
}
