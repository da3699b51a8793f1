/// <reference path="./text.d.ts" />
// The page for browsers: one document with its style and its script, which the folder beside this file has in parts. The
// policy that goes with it lets nothing else run, and nothing be fetched from elsewhere.

import { REFUSAL_REASONS } from "../lib/reasons.ts";
import type { Answer } from "./route.ts";
import actions from "./page/actions.js" with { type: "text" };
import chart from "./page/chart.js" with { type: "text" };
import dom from "./page/dom.js" with { type: "text" };
import lists from "./page/lists.js" with { type: "text" };
import live from "./page/live.js" with { type: "text" };
import html from "./page/page.html" with { type: "text" };
import refusals from "./page/refusals.js" with { type: "text" };
import state from "./page/status.js" with { type: "text" };
import style from "./page/page.css" with { type: "text" };

/** In the order in which each part needs those before it. */
const PARTS = [dom, chart, actions, state, refusals, lists, live];

/** The types take it for a bundle, which it is without the attribute. */
const page = html as unknown as string;

const script = [`const REASONS = ${JSON.stringify(REFUSAL_REASONS)};`, ...PARTS].join("\n");

export function pageResponse(): Answer {
  const nonce = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64");
  const policy = [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    `style-src 'nonce-${nonce}'`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  const headers = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": policy.join("; "),
  };
  // Functions, because a text that replaces is searched for dollar signs.
  const body = page
    .replace("<!-- style -->", () => `<style nonce="${nonce}">\n${style}</style>`)
    .replace("<!-- script -->", () => `<script type="module" nonce="${nonce}">\n${script}</script>`);
  return { status: 200, headers, body };
}
