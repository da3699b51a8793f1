// The page as it is served: what it may load and run, and that its parts are whole.

import { expect, test } from "bun:test";
import { pageResponse } from "../../src/admin/page.ts";
import { REFUSAL_REASONS } from "../../src/lib/reasons.ts";

const served = () => {
  const { status, headers, body } = pageResponse();
  if (typeof body !== "string") throw new Error("the page is not one text");
  const policy = headers["content-security-policy"]!;
  const [, nonce] = /'nonce-([^']+)'/.exec(policy)!;
  return { status, headers, policy, nonce: nonce!, body };
};

test("the page allows its own script and style and requests to its own proxy, and nothing else", () => {
  const { status, headers, policy, nonce } = served();
  expect(status).toBe(200);
  expect(headers["content-type"]).toBe("text/html; charset=utf-8");
  expect(policy).toBe(
    `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  );
});

test("the page has another nonce each time, of 128 bits", () => {
  const nonces = Array.from({ length: 100 }, () => served().nonce);
  expect(new Set(nonces).size).toBe(100);
  expect(nonces.every((nonce) => Buffer.from(nonce, "base64").length === 16)).toBe(true);
});

test("the page has one script and one style, both with the nonce, and no address of others", () => {
  const { body, nonce } = served();
  expect(body.match(/<script[^>]*>/g)).toEqual([`<script type="module" nonce="${nonce}">`]);
  expect(body.match(/<style[^>]*>/g)).toEqual([`<style nonce="${nonce}">`]);
  expect(body.match(/https?:[^"'`\s]*/g)?.every((url) => url === "http://www.w3.org/2000/svg")).toBe(true);
  expect(body).not.toMatch(/<(link|img|iframe|object|embed|base)\b/i);
  expect(body).not.toMatch(/@import|url\(/);
});

test("the page has no handlers or styles in attributes, and makes no markup out of text", () => {
  const { body } = served();
  const markup = body.replace(/<script[^]*?<\/script>|<style[^]*?<\/style>/g, "");
  expect(markup).not.toMatch(/\s(on\w+|style)=/i);
  expect(body).not.toMatch(
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|\beval\b|new Function/,
  );
});

test("the page's script is valid, and knows every reason of a refusal", () => {
  const { body } = served();
  const [, script] = /<script[^>]*>([^]*)<\/script>/.exec(body)!;
  new Bun.Transpiler({ loader: "js" }).scan(script!);
  for (const reason of Object.keys(REFUSAL_REASONS)) expect(script).toContain(`"${reason}":`);
});

test("every element that the page's script asks for by its id is there once", () => {
  const { body } = served();
  const asked = [...body.matchAll(/byId\("([^"]+)"\)/g)].map(([, id]) => id!);
  expect(asked.length).toBeGreaterThan(20);
  for (const id of new Set(asked)) expect(body.split(` id="${id}"`).length).toBe(2);
});
