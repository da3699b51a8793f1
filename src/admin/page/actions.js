// What operators change from the page: kick, block, drain. Each change is confirmed in a dialog, which says first how many
// connections it concerns: a dry run counts them. Those who may only look get no buttons; the proxy refuses them in any case.

/** Sends what is not a mere question; the header cannot come from a page of another origin. */
async function send(method, path, body) {
  const headers = { "content-type": "application/json", "x-tcpproxy": "1" };
  const response = await fetch(path, { method, headers, cache: "no-store", body: JSON.stringify(body) });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `the proxy answers ${response.status}`);
  return answer;
}

function showRight(right) {
  document.body.classList.toggle("operator", right === "operate");
}

function connectionsOf(number) {
  return number === 1 ? "1 open connection" : `${count(number)} open connections`;
}

/** What the dialog is about now. */
let pending;

/**
 * Opens the dialog. A change has a `title`, the `verb` of its button, a `filter` for the connections that it concerns, a
 * `text` made of their number, what it `sends`, and may be `lasting` (a time and a reason are asked for).
 */
async function confirmChange(change) {
  pending = change;
  setText(byId("confirm-title"), change.title);
  setText(byId("confirm-text"), "Counting the connections that it concerns.");
  setText(byId("confirm-go"), change.verb);
  byId("confirm-error").hidden = true;
  byId("confirm-lasting").hidden = !change.lasting;
  byId("confirm-reason").value = "";
  byId("confirm-go").disabled = true;
  byId("confirm").showModal();
  try {
    const { kicked } = await send("POST", "/v1/kick", { ...change.filter, dryRun: true });
    if (pending !== change) return;
    setText(byId("confirm-text"), change.text(kicked.length));
    byId("confirm-go").disabled = false;
  } catch (error) {
    if (pending === change) showFailure(error);
  }
}

function showFailure({ message }) {
  byId("confirm-error").hidden = false;
  setText(byId("confirm-error"), message);
}

async function carryOut() {
  const change = pending;
  byId("confirm-go").disabled = true;
  byId("confirm-error").hidden = true;
  const reason = byId("confirm-reason").value.trim();
  const lasting = byId("confirm-for").value;
  try {
    await change.sends({ ...(reason && { reason }), ...(lasting && { for: lasting }) });
    if (pending === change) byId("confirm").close();
    refreshSoon(0);
  } catch (error) {
    if (pending !== change) return;
    showFailure(error);
    byId("confirm-go").disabled = false;
  }
}

byId("confirm-go").addEventListener("click", () => void carryOut());
byId("confirm-cancel").addEventListener("click", () => byId("confirm").close());
byId("confirm").addEventListener("close", () => {
  // The event of a dialog comes late: by then the next one may be open.
  if (!byId("confirm").open) pending = undefined;
});

function kickConnection({ id, client, remote }) {
  return confirmChange({
    title: `Kick ${client} from ${remote}?`,
    verb: "Kick",
    filter: { ids: [id] },
    text: (number) => `This ends ${connectionsOf(number)}. The client may connect again.`,
    sends: () => send("POST", "/v1/kick", { ids: [id] }),
  });
}

function kickClient({ client }) {
  return confirmChange({
    title: `Kick ${client}?`,
    verb: "Kick",
    filter: { client },
    text: (number) => `This ends ${connectionsOf(number)}. The client may connect again.`,
    sends: () => send("POST", "/v1/kick", { client }),
  });
}

/** A client that is called `*@group` cannot be blocked without its group. */
function blockClient({ client }) {
  const group = client.startsWith("*@") ? client.slice(2) : undefined;
  return confirmChange({
    title: group === undefined ? `Block ${client}?` : `Block everybody in the group ${group}?`,
    verb: "Block",
    filter: group === undefined ? { client } : { group },
    lasting: true,
    text: (number) => `This ends ${connectionsOf(number)}, and refuses new ones.`,
    sends: (more) => send("PUT", "/v1/blocks", { subject: client, ...more }),
  });
}

function drainTarget({ upstream, target, draining }) {
  const now = { upstream, target };
  return confirmChange({
    title: draining ? `Send connections to ${target} again?` : `Drain ${target}?`,
    verb: draining ? "Make ready" : "Drain",
    filter: now,
    text: (number) =>
      draining
        ? `It gets new connections for ${upstream} again. It has ${connectionsOf(number)}.`
        : `It gets no new connections for ${upstream}. It has ${connectionsOf(number)}, which stay.`,
    sends: () => send("PATCH", "/v1/targets", { ...now, draining: !draining }),
  });
}

/** The last column of a table. */
const connectionActions = {
  title: "",
  kind: "actions",
  buttons: [
    ["Kick", kickConnection],
    ["Block", blockClient],
  ],
};
const clientActions = {
  title: "",
  kind: "actions",
  buttons: [
    ["Kick", kickClient],
    ["Block", blockClient],
  ],
};
const targetActions = {
  title: "",
  kind: "actions",
  buttons: [[({ draining }) => (draining ? "Ready" : "Drain"), drainTarget]],
};
