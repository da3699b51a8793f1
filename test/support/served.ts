// Questions of many tests: is a client served, which target has its connection, and what does the log say about it?

import { expect } from "bun:test";
import { freePort } from "./free-port.ts";
import { connect, type Origin, type Peer } from "./peer.ts";
import type { Line, TestProxy } from "./proxy.ts";

/** Sends a byte to an echo server. Returns whether it comes back. */
export async function echoes(client: Peer): Promise<boolean> {
  return (await client.send("x")) && (await client.read(1)).toString() === "x";
}

/** Connects a client to an echo server. Returns undefined if it is not served. */
export async function served(port: number, name = "alice"): Promise<Peer | undefined> {
  const client = await connect(port, { name });
  if (await echoes(client)) return client;
  client.close();
  return undefined;
}

/** Connects a client to an echo server and disconnects it. Returns whether it was served. */
export async function isServed(port: number, name = "alice"): Promise<boolean> {
  const client = await served(port, name);
  client?.close();
  return client !== undefined;
}

/** Connects `count` clients at the same time, and expects all of them to be served. */
export async function crowd(port: number, count: number): Promise<Peer[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => connect(port)));
  expect(await Promise.all(clients.map(echoes))).toEqual(Array(count).fill(true));
  return clients;
}

/** Connects a client. Returns it and the connection that the server got for it. */
export async function pair(proxy: TestProxy, origin: Origin): Promise<{ client: Peer; server: Peer }> {
  const client = await connect(proxy.port);
  return { client, server: await origin.next() };
}

/** The targets of the first upstream. */
export function targets({ proxy }: TestProxy) {
  return proxy.stats().upstreams[0]!.targets;
}

/** The number of open connections of each target of the first upstream. */
export function open(proxy: TestProxy): number[] {
  return targets(proxy).map((target) => target.open);
}

/** The health of each target of the first upstream. */
export function health(proxy: TestProxy) {
  return targets(proxy).map((target) => target.health);
}

/** The lines of a log with this message. */
export function messages(log: { readonly lines: readonly Line[] }, msg: string): Line[] {
  return log.lines.filter((line) => line.msg === msg);
}

/** The reasons of all refusals, in order. */
export function reasons(log: { readonly lines: readonly Line[] }) {
  return messages(log, "refused").map(({ reason }) => reason);
}

/** A target that refuses connections. */
export function closedTarget(): string {
  return `127.0.0.1:${freePort()}`;
}
