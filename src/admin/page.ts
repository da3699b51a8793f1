// The page for browsers.

import type { Answer } from "./route.ts";

export function pageResponse(): Answer {
  const headers = {
    "content-type": "text/plain; charset=utf-8",
    "content-security-policy": "default-src 'none'",
  };
  return { status: 200, headers, body: "The state of this proxy: GET /v1/status\n" };
}
