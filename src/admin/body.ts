// Reads the JSON object that comes with a request, up to a size.

import type { IncomingMessage } from "node:http";
import { Refused } from "./route.ts";

const MAX_BODY = 65_536;

/**
 * @returns the object; an empty one where nothing was sent
 * @throws Refused; another error where the connection has gone
 */
export async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const { "content-length": length, "transfer-encoding": encoding } = request.headers;
  if (encoding === undefined && (length === undefined || length === "0")) return {};
  if (request.method === "GET") throw new Refused(400, "GET takes no body");
  if (Number(length ?? 0) > MAX_BODY) throw tooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  // What is refused is still answered, on the same connection.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) throw tooLarge();
    chunks.push(chunk);
  }
  return objectIn(Buffer.concat(chunks));
}

/** @throws Refused where it is no object in JSON and UTF-8 */
export function objectIn(bytes: Uint8Array): Record<string, unknown> {
  if (bytes.length === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new Refused(400, "the body is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Refused(400, "the body is not a JSON object");
  }
  return value as Record<string, unknown>;
}

function tooLarge(): Refused {
  return new Refused(413, `the body has more than ${MAX_BODY} bytes`);
}
