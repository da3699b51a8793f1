// The page in a real browser, before a real proxy: what it shows, that it keeps up, and that nothing of others runs in it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { REFUSAL_REASONS } from "../../src/lib/reasons.ts";
import { openDashboard, type Dashboard } from "../../src/cli/dashboard-server.ts";
import { SocketFolder } from "../support/admin.ts";
import { Browser, chromium, type Page } from "../support/browser.ts";
import { issue } from "../support/issue.ts";
import { connect, echoOrigin, type Origin, type Peer } from "../support/peer.ts";
import { startProxy, type TestProxy, testConfig } from "../support/proxy.ts";
import { closedTarget } from "../support/served.ts";

const ROWS = 'document.querySelectorAll("#connections tbody tr")';

describe.skipIf(chromium === null)("the page in chromium", () => {
  let browser: Browser;
  let folder: SocketFolder;
  let origin: Origin;
  let it: TestProxy;
  let dashboard: Dashboard;
  let page: Page;

  const start = () =>
    startProxy([], {
      admin: { socket: folder.socket },
      upstreams: [{ name: "test", targets: [origin.target], authorizedGroups: ["admin", "x"] }],
    });

  /** An open connection through the proxy. */
  async function visit(name: string): Promise<Peer> {
    const peer = await connect(it.port, { identity: issue(name) });
    await peer.send("hello");
    await peer.read(5);
    return peer;
  }

  beforeAll(async () => {
    browser = await Browser.start();
    folder = new SocketFolder();
    origin = echoOrigin();
    it = await start();
    dashboard = await openDashboard(folder.socket, 0);
    page = await browser.open();
    await page.go(dashboard.address);
    await page.until('document.getElementById("phase").textContent === "running"');
  });

  afterAll(async () => {
    dashboard?.close();
    await it?.[Symbol.asyncDispose]();
    origin?.[Symbol.dispose]();
    folder?.[Symbol.dispose]();
    await browser?.[Symbol.asyncDispose]();
  });

  test("the page shows the state, and leaves the token out of its address", async () => {
    expect(await page.value("location.href")).toBe(`${new URL(dashboard.address).origin}/`);
    expect(await page.text("about")).toMatch(/^0\.\S+ on bun \S+ · up .+ · process \d+$/);
    expect(await page.text("upstreams")).toContain(origin.target);
    expect(await page.text("certificates")).toContain("the proxy's certificate");
    expect(await page.text("reload")).toContain("none since the start");
  });

  test("the page keeps up with connections and refusals, without being loaded again", async () => {
    const peer = await visit("alice@admin");
    await page.until('document.getElementById("open").textContent === "1"');
    const stranger = await connect(it.port, { name: "alice-ops" });
    await stranger.ended;
    await page.until('document.getElementById("refusals").innerText.includes("group_not_authorized")');
    expect(await page.text("refusals")).toContain(REFUSAL_REASONS.group_not_authorized.meaning);
    peer.close();
    await page.until('document.getElementById("open").textContent === "0"');
  });

  test("names of others are text: nothing in them runs", async () => {
    const [admitted, refused] = ["<img/src=x/onerror=alert(1)>@x", "<img src=x onerror=alert(1)>@x"];
    const peer = await visit(admitted);
    const stranger = await connect(it.port, { identity: issue(refused) });
    await stranger.ended;
    await page.value('document.getElementById("filter-form").requestSubmit()');
    for (const [id, name] of [
      ["connections", admitted],
      ["clients", admitted],
      ["refusals", refused],
    ]) {
      await page.until(`document.getElementById("${id}").innerText.includes(${JSON.stringify(name)})`);
    }
    expect(await page.value("document.images.length")).toBe(0);
    peer.close();
  });

  test("the filter leaves the connections that have its text", async () => {
    const peers = [await visit("alice@admin"), await visit("carol@admin"), await visit("dave@x")];
    await page.type("filter", "ALICE@");
    await page.until(`${ROWS}.length === 1 && ${ROWS}[0].innerText.includes("alice@admin")`);
    expect(await page.text("shown")).toBe("1 of 3 open");
    await page.value('document.getElementById("filter").value = ""');
    await page.type("filter", origin.target);
    await page.until(`${ROWS}.length === 3`);
    await page.type("filter", "x");
    await page.until('document.getElementById("shown").innerText === "0 of 3 open"');
    await page.value(
      'document.getElementById("filter").value = ""; document.getElementById("filter-form").requestSubmit()',
    );
    await page.until(`${ROWS}.length === 3`);
    for (const peer of peers) peer.close();
  });

  /** Presses the button with this label in the row of a table that has the text. */
  const press = (table: string, text: string, label: string) =>
    page.value(
      `[...document.querySelectorAll("#${table} tbody tr")].find((row) => row.innerText.includes(${JSON.stringify(text)}))
        .querySelectorAll("button").forEach((each) => each.textContent === ${JSON.stringify(label)} && each.click())`,
    );
  const asked = (text: string) =>
    page.until(`document.getElementById("confirm").open && !document.getElementById("confirm-go").disabled
      && document.getElementById("confirm").innerText.includes(${JSON.stringify(text)})`);
  const go = async () => {
    await page.value('document.getElementById("confirm-go").click()');
    await page.until('!document.getElementById("confirm").open');
  };
  const shows = (name: string) =>
    page.until(`document.getElementById("connections").innerText.includes(${JSON.stringify(name)})`);

  test("a kick is confirmed with the number of connections, and not carried out where it is cancelled", async () => {
    const [one, other] = [await visit("erin@admin"), await visit("erin@admin")];
    await page.value('document.getElementById("filter-form").requestSubmit()');
    await shows("erin@admin");
    await press("connections", "erin@admin", "Kick");
    await asked("1 open connection.");
    await page.value('document.getElementById("confirm-cancel").click()');
    await page.value('document.getElementById("filter-form").requestSubmit()');
    await page.until('document.getElementById("clients").innerText.includes("erin@admin")');
    expect(it.proxy.stats().connections).toBe(2);
    await press("clients", "erin@admin", "Kick");
    await asked("2 open connections.");
    await go();
    await Promise.all([one.ended, other.ended]);
    expect(await it.log.line("closed", "kicked")).toMatchObject({ client: "erin@admin" });
  });

  test("a dialog that opens as another one closes counts its connections all the same", async () => {
    const peer = await visit("frank@admin");
    await page.value('document.getElementById("filter-form").requestSubmit()');
    await shows("frank@admin");
    await press("connections", "frank@admin", "Kick");
    await asked("1 open connection.");
    // In one turn: the first one's event comes after it.
    await page.value(`document.getElementById("confirm-cancel").click();
      [...document.querySelectorAll("#connections tbody tr")].find((row) => row.innerText.includes("frank@admin"))
        .querySelectorAll("button").forEach((each) => each.textContent === "Block" && each.click())`);
    await asked("1 open connection,");
    await page.value('document.getElementById("confirm-cancel").click()');
    await page.until('!document.getElementById("confirm").open');
    peer.close();
    await peer.ended;
  });

  test("a block of a client with a hostile name ends its connections, for the time that was chosen", async () => {
    const name = "<img/src=y/onerror=alert(2)>@x";
    const peer = await visit(name);
    await page.value('document.getElementById("filter-form").requestSubmit()');
    await shows(name);
    await press("connections", name, "Block");
    await asked("1 open connection,");
    expect(await page.text("confirm-title")).toBe(`Block ${name}?`);
    await page.value('document.getElementById("confirm-for").value = "8h"');
    await page.type("confirm-reason", "lost laptop");
    await go();
    await peer.ended;
    const line = await it.log.line("closed", "blocked");
    expect(line).toMatchObject({ client: name });
    expect(await it.log.line("admin")).toMatchObject({ result: "ok" });
    const stranger = await connect(it.port, { identity: issue(name) });
    await stranger.ended;
    expect(await page.value("document.images.length")).toBe(0);
  });

  test("a refusal is explained when it is asked about", async () => {
    const stranger = await connect(it.port, { name: "alice-ops" });
    await stranger.ended;
    const first = 'document.querySelector("#refusals li")';
    await page.until(`${first}?.innerText.includes("alice@ops")`);
    await page.value(`${first}.querySelector("summary").click()`);
    await page.until(`${first}.innerText.includes('the group "ops" is not listed for "test"')`);
  });

  test("a target is drained and made ready again, and keeps its connections", async () => {
    const peer = await visit("frank@admin");
    await press("upstreams", origin.target, "Drain");
    await asked("It has 1 open connection, which stay");
    await go();
    await page.until('document.getElementById("upstreams").innerText.includes("draining")');
    await press("upstreams", origin.target, "Ready");
    await asked("new connections for test again");
    await go();
    await page.until('!document.getElementById("upstreams").innerText.includes("draining")');
    await peer.send("there");
    await peer.read(5);
    peer.close();
  });

  test("a change that fails says why in the dialog", async () => {
    await page.value(
      'document.body.classList.contains("operator") || (() => { throw new Error("no operator") })()',
    );
    await page.value('document.getElementById("filter").value = ""');
    const peer = await visit("gina@admin");
    await page.value('document.getElementById("filter-form").requestSubmit()');
    await shows("gina@admin");
    await press("connections", "gina@admin", "Block");
    await asked("1 open connection,");
    await page.value(
      'const choice = document.getElementById("confirm-for"); choice.options[0].value = "soon"; choice.selectedIndex = 0',
    );
    await page.value('document.getElementById("confirm-go").click()');
    await page.until('document.getElementById("confirm-error").innerText.includes("is a duration")');
    await page.value('document.getElementById("confirm-cancel").click()');
    peer.close();
  });

  test("the fleet is shown where there is one, and that its store does not answer", async () => {
    expect(await page.value('document.getElementById("fleet-section").hidden')).toBe(true);
    const upstreams = [{ name: "test", targets: [origin.target], authorizedGroups: ["admin", "x"] }];
    const config = testConfig([], { admin: { socket: folder.socket }, upstreams });
    await it.proxy.reload({ ...config, fleet: { store: `redis://${closedTarget()}`, node: "here" } });
    await page.until('document.getElementById("fleet").innerText.includes("degraded")');
    // The proxy tries again once a second at most, and may have done so before the page asks.
    expect(await page.text("fleet")).toMatch(/here[^]*1: here[^]*redis:[^]*none yet[^]*\d+ × connection/);
    expect(await page.text("attention")).toContain("here decides alone");
    await it.proxy.reload(config);
    await page.until('document.getElementById("fleet-section").hidden');
  });

  test("a reload that is refused is shown with its faults, until one succeeds", async () => {
    await it.proxy.reload({ timeout: "never" }).catch(() => {});
    await page.until('document.getElementById("attention").innerText.includes("timeout")');
    expect(await page.text("reload")).toContain("refused");
    await it.proxy.reload();
    await page.until('document.getElementById("reload").innerText.includes("succeeded")');
  });

  test("a connection that is lost is said to be, and comes back with the proxy", async () => {
    await it.proxy.close({ timeout: 0 });
    await page.until('document.getElementById("phase").textContent === "connection lost"');
    expect(await page.text("lost")).toStartWith("The connection is lost.");
    expect(await page.value("document.title")).toStartWith("connection lost");
    it = await start();
    await page.until('document.getElementById("phase").textContent === "running"');
    expect(await page.value('document.getElementById("lost").hidden')).toBe(true);
    const peer = await visit("alice@admin");
    await page.until('document.getElementById("open").textContent === "1"');
    peer.close();
  });

  test.each([1280, 375])("the page is no wider than a window of %d pixels", async (width) => {
    const png = await page.screenshot(width, "dark");
    expect(png.readUInt32BE(16) % width).toBe(0);
    expect(await page.value("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
  });

  test("the page asks nobody else for anything, breaks no rule of its policy, and its policy holds", async () => {
    const foreign = page.requests.filter((url) => !url.startsWith(`${new URL(dashboard.address).origin}/`));
    expect(foreign).toEqual([]);
    expect(page.trouble).toEqual([]);
    const breach = page.nextTrouble();
    await page.value('void document.body.append(Object.assign(new Image(), { src: "/v1/status" }))');
    expect(await breach).toContain("Content Security Policy");
  });

  test("another browser is not let in by the same address", async () => {
    const other = await browser.open();
    await other.go(dashboard.address);
    await other.until('document.body?.innerText.includes("has been used")');
    await other.go(new URL("/v1/status", dashboard.address).href);
    await other.until('document.body?.innerText.includes("lets one browser in")');
  });
});
