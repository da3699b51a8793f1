// What many tests ask: is this client served, where are the connections, and what does the log say of them?

import { expect } from "bun:test";
import { freePort } from "./free-port.ts";
import { connect, type Origin, type Peer } from "./peer.ts";
import type { Line, TestProxy } from "./proxy.ts";

/** Whether a byte that this client sends to an echo server comes back. */
export async function echoes(client: Peer): Promise<boolean> {
  return (await client.send("x")) && (await client.read(1)).toString() === "x";
}

/** A client that an echo server answers, still connected; undefined where it is not served. */
export async function served(port: number, name = "alice"): Promise<Peer | undefined> {
  const client = await connect(port, { name });
  if (await echoes(client)) return client;
  client.close();
  return undefined;
}

/** Whether a client is served. It disconnects afterwards. */
export async function isServed(port: number, name = "alice"): Promise<boolean> {
  const client = await served(port, name);
  client?.close();
  return client !== undefined;
}

/** So many clients at the same time, all of them served. */
export async function crowd(port: number, count: number): Promise<Peer[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => connect(port)));
  expect(await Promise.all(clients.map(echoes))).toEqual(Array(count).fill(true));
  return clients;
}

/** A client and the connection that the proxy made for it. */
export async function pair(proxy: TestProxy, origin: Origin): Promise<{ client: Peer; server: Peer }> {
  const client = await connect(proxy.port);
  return { client, server: await origin.next() };
}

/** The targets of the first upstream. */
export function targets({ proxy }: TestProxy) {
  return proxy.stats().upstreams[0]!.targets;
}

/** How many connections each target of the first upstream has. */
export function open(proxy: TestProxy): number[] {
  return targets(proxy).map((target) => target.open);
}

/** How each target of the first upstream does. */
export function health(proxy: TestProxy) {
  return targets(proxy).map((target) => target.health);
}

/** The lines of a log with this message. */
export function messages(log: { readonly lines: readonly Line[] }, msg: string): Line[] {
  return log.lines.filter((line) => line.msg === msg);
}

/** The reasons of all refusals, in their order. */
export function reasons(log: { readonly lines: readonly Line[] }) {
  return messages(log, "refused").map(({ reason }) => reason);
}

/** A target on which nobody listens. */
export function closedTarget(): string {
  return `127.0.0.1:${freePort()}`;
}
