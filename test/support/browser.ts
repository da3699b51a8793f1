// A real browser: Debian's chromium without a window, told what to do over its own protocol (Chrome DevTools Protocol).

import { Folder } from "./folder.ts";

/** For `test.if`. */
export const chromium = Bun.which("chromium");

type Params = Record<string, unknown>;
type Listener = (method: string, params: any, session: string | undefined) => void;

/** A browser that runs. Leaving the scope kills it. */
export class Browser implements AsyncDisposable {
  readonly #folder = new Folder();
  readonly #child: Bun.Subprocess<"ignore", "ignore", "pipe">;
  #socket!: WebSocket;
  #serial = 0;
  readonly #waiting = new Map<number, PromiseWithResolvers<any>>();
  readonly #listeners = new Set<Listener>();

  private constructor() {
    const folder = this.#folder.path("profile");
    const quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update"];
    this.#child = Bun.spawn(
      [
        chromium!,
        ...["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", ...quiet],
        ...["--remote-debugging-port=0", `--user-data-dir=${folder}`, "about:blank"],
      ],
      { stdin: "ignore", stdout: "ignore", stderr: "pipe", env: { ...process.env, HOME: folder } },
    );
  }

  static async start(): Promise<Browser> {
    const browser = new Browser();
    browser.#socket = new WebSocket(await browser.#address());
    await new Promise((resolve) => browser.#socket.addEventListener("open", resolve, { once: true }));
    browser.#socket.addEventListener("message", ({ data }) => browser.#heard(JSON.parse(String(data))));
    return browser;
  }

  /** A tab of its own, with cookies of its own. */
  async open(): Promise<Page> {
    const { browserContextId } = await this.send("Target.createBrowserContext");
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId);
    await page.listen();
    return page;
  }

  send(method: string, params: Params = {}, sessionId?: string): Promise<any> {
    const id = ++this.#serial;
    const answer = Promise.withResolvers<any>();
    this.#waiting.set(id, answer);
    this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    return answer.promise;
  }

  on(listener: Listener): void {
    this.#listeners.add(listener);
  }

  /** It prints it, once it listens. The rest of what it prints is read and dropped. */
  #address(): Promise<string> {
    return new Promise((resolve, fail) => {
      void (async () => {
        let text = "";
        const decoder = new TextDecoder();
        for await (const chunk of this.#child.stderr) {
          text = (text + decoder.decode(chunk)).slice(-10_000);
          const found = /DevTools listening on (ws:\S+)/.exec(text);
          if (found !== null) resolve(found[1]!);
        }
        fail(new Error(`chromium ended: ${text}`));
      })();
    });
  }

  #heard({ id, method, params, result, error, sessionId }: any): void {
    if (id === undefined) return this.#listeners.forEach((listener) => listener(method, params, sessionId));
    const answer = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) answer?.resolve(result);
    else answer?.reject(new Error(error.message));
  }

  async [Symbol.asyncDispose]() {
    this.#socket?.close();
    this.#child.kill("SIGKILL");
    await this.#child.exited;
    this.#folder[Symbol.dispose]();
  }
}

export class Page {
  readonly #browser: Browser;
  readonly #session: string;
  /** Addresses of all requests. */
  readonly requests: string[] = [];
  /** What a page should not do: exceptions, dialogs, breaches of its policy. */
  readonly trouble: string[] = [];
  #reported = Promise.withResolvers<string>();

  constructor(browser: Browser, session: string) {
    this.#browser = browser;
    this.#session = session;
  }

  async listen(): Promise<void> {
    this.#browser.on((method, params, session) => {
      if (session !== this.#session) return;
      if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
      else if (method === "Runtime.exceptionThrown") this.#report(JSON.stringify(params.exceptionDetails));
      else if (method === "Log.entryAdded" && params.entry.source === "security") {
        this.#report(params.entry.text);
      } else if (method === "Page.javascriptDialogOpening") {
        this.#report(`dialog: ${params.message}`);
        void this.send("Page.handleJavaScriptDialog", { accept: true });
      }
    });
    await Promise.all(["Page", "Network", "Runtime", "Log"].map((domain) => this.send(`${domain}.enable`)));
  }

  send(method: string, params: Params = {}): Promise<any> {
    return this.#browser.send(method, params, this.#session);
  }

  async go(url: string): Promise<void> {
    await this.send("Page.navigate", { url });
  }

  /** The next thing that it should not do. */
  nextTrouble(): Promise<string> {
    return this.#reported.promise;
  }

  #report(what: string): void {
    this.trouble.push(what);
    this.#reported.resolve(what);
    this.#reported = Promise.withResolvers<string>();
  }

  /** The value of an expression, in the page. */
  async value(expression: string): Promise<any> {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", options);
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }

  /** The text of the element with this id. */
  text(id: string): Promise<string> {
    return this.value(`document.getElementById(${JSON.stringify(id)})?.innerText ?? ""`);
  }

  /** Waits until an expression holds in the page. */
  async until(expression: string): Promise<void> {
    const deadline = performance.now() + 20_000;
    for (;;) {
      // A page that is being loaded has nothing to ask.
      if (await this.value(`Boolean(${expression})`).catch(() => false)) return;
      if (performance.now() > deadline) {
        throw new Error(`waited in vain until ${expression}: ${await this.value("document.body.innerText")}`);
      }
      await Bun.sleep(20);
    }
  }

  /** Types into the element with this id, as a person does. */
  async type(id: string, text: string): Promise<void> {
    await this.value(`document.getElementById(${JSON.stringify(id)}).focus()`);
    await this.send("Input.insertText", { text });
  }

  /** PNG. */
  async screenshot(width: number, scheme: "light" | "dark", height?: number): Promise<Buffer> {
    await this.send("Emulation.setDeviceMetricsOverride", {
      width,
      height: 800,
      deviceScaleFactor: width < 500 ? 2 : 1,
      mobile: width < 500,
    });
    await this.send("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value: scheme }],
    });
    const whole = await this.value("document.documentElement.scrollHeight");
    const clip = { x: 0, y: 0, width, height: height ?? whole, scale: 1 };
    const options = { format: "png", captureBeyondViewport: true, clip };
    const { data } = await this.send("Page.captureScreenshot", options);
    return Buffer.from(data, "base64");
  }
}
