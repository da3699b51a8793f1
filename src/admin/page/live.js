// The stream of events. A connection that is lost is said to be, and tried again until it is back.

/** The state comes once a second; after so long without it the connection counts as lost. */
const SILENCE_MS = 5_000;
const RETRY_MS = 1_500;

let source;
let silence;

function connect() {
  source = new EventSource("/v1/events?status");
  source.addEventListener("status", ({ data }) => {
    heard();
    showStatus(JSON.parse(data));
  });
  source.addEventListener("log", ({ data }) => {
    const event = JSON.parse(data);
    if (event.msg === "refused") addRefusal(event);
  });
  source.addEventListener("error", () => void lost());
  waitForState();
}

function waitForState() {
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MS);
}

function heard() {
  waitForState();
  if (byId("main").classList.contains("stale")) refreshSoon(0);
  byId("main").classList.remove("stale");
  byId("lost").hidden = true;
}

async function lost() {
  // The browser's own attempts end at the first answer that is no stream.
  source.close();
  clearTimeout(silence);
  setTimeout(connect, RETRY_MS);
  setPhase("connection lost", "bad");
  byId("main").classList.add("stale");
  byId("lost").hidden = false;
  setText(byId("lost"), "The connection is lost. What is below is how it was; this page tries again.");
  const { status } = await fetch("/v1/status", { cache: "no-store" }).catch(() => ({}));
  if (status === 403)
    setText(
      byId("lost"),
      "You are not let in any more. Run `proxy dashboard` again, and open the address that it prints.",
    );
}

byId("refusals").classList.add("none");
connect();
refresh();
