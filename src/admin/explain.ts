// What would become of a client of a running proxy, or what became of one: the decision in words, and what the moment adds
// to it. It takes nothing: no token, no place, no target.

import { Blocks } from "../auth/blocks.ts";
import { networkRule } from "../auth/networks.ts";
import { Router } from "../auth/server-name.ts";
import type { Question } from "../connection/admission.ts";
import { explain, type Explanation } from "../connection/explanation.ts";
import type { Line } from "../connection/explanation-line.ts";
import { hostOf, type ConnectionView } from "../connection/view.ts";
import { listenerState } from "../engine/activate.ts";
import type { Answers, Question as ThreadQuestion } from "../engine/questions.ts";
import { formatAddress } from "../lib/address.ts";
import { monotonic } from "../lib/clock.ts";
import { formatDuration } from "../lib/duration.ts";
import { quote, type RefusalReason } from "../lib/errors.ts";
import { REFUSAL_REASONS, type Reason } from "../lib/reasons.ts";
import { rangeList, sourceOf } from "../lib/source.ts";
import { ruleKeys, ruleOf } from "../state/client-rules.ts";
import { Limits, type ClientRule } from "../state/limits.ts";
import { Sources } from "../state/sources.ts";
import type { WhenDown } from "../config/fleet-schema.ts";
import type { FleetStatus } from "../fleet/fleet.ts";
import { capDetail } from "../upstreams/pool.ts";
import type { RecentRefusals } from "./recent.ts";
import type { Subject } from "./subject.ts";
import { answered, threadsOf } from "./threads.ts";

/** A question to a running proxy, with the place of the listener in the configuration. */
export type LiveQuestion = Omit<Question, "listener"> & { readonly listener: number };

/** In the order in which the proxy decides: what is limited before TLS, the decision, then the client's limits and the target. */
export function explainLive(subject: Subject, question: LiveQuestion): Explanation {
  const { config, credentials, pools, blocks } = subject;
  const now = monotonic();
  const place = config.listeners[question.listener]!;
  const { address } = question;
  // The proxy looks at the address first, and then at nothing else.
  const isDenied = address !== undefined && networkRule(place)?.(address) !== undefined;
  const before = isDenied ? [] : beforeTls(subject, address, now);
  const refused = before.find(({ ok }) => ok === false);
  if (refused !== undefined) {
    const reason = refused.step === "source" ? "source_limited" : "overloaded";
    return { steps: before, reason };
  }
  const state = { listener: place, credentials: credentials.listeners[question.listener]! };
  const listener = listenerState(state, question.listener);
  const router = new Router(config.upstreams, config.fallback);
  const rules = { config, router, pools, blocks: new Blocks(blocks) };
  const decided = explain({ ...question, listener }, { rules, place, live: true });
  const steps = [...before, ...decided.steps];
  const { client, upstream } = decided;
  if (client === undefined || upstream === undefined) return { ...decided, steps };
  const limited = ofClient(subject, client, now);
  steps.push(...limited.lines);
  if (limited.reason !== undefined) return { steps, client, reason: limited.reason };
  const target = targetLine(subject, upstream, now);
  steps.push(target);
  if (target.ok !== false) return { steps, client, upstream };
  const isFull = pools.get(upstream)?.balancer.full === "upstream_full";
  return { steps, client, reason: isFull ? "connection_limit" : "no_target" };
}

function beforeTls(
  { config, ledger, maxConnections }: Subject,
  address: string | undefined,
  now: number,
): Line[] {
  const { exempt } = config.handshakes;
  const source = rangeList(exempt)(address) ? undefined : sourceOf(address);
  const isLimited = source !== undefined && new Sources(ledger, config.handshakes).refuses(source, now);
  const open = ledger.connections();
  const full = open >= maxConnections;
  const room: Line = {
    step: "room",
    ok: !full,
    text: `${open} of ${maxConnections} connections of all clients are open`,
    key: "maxConnections",
    ...(full && { remedy: REFUSAL_REASONS.overloaded.remedy }),
  };
  if (isLimited) {
    const { meaning: text, remedy } = REFUSAL_REASONS.source_limited;
    return [{ step: "source", ok: false, text, key: "handshakes.failures", remedy }];
  }
  if (address === undefined) return [room];
  return [
    { step: "source", ok: true, text: `${address} may begin handshakes`, key: "handshakes.failures" },
    room,
  ];
}

function ofClient(
  { config, ledger, fleet }: Subject,
  client: string,
  now: number,
): { lines: Line[]; reason: RefusalReason | undefined } {
  const { capacity, fillRate, maxConnections } = ruleOf(config, client);
  const keys = ruleKeys(config, client);
  const limits = new Limits(ledger, config.rateLimit, config.limits);
  const reason = limits.refusal(client, now);
  const remedy = reason && REFUSAL_REASONS[reason].remedy;
  const most = maxConnections === undefined ? "and there is no limit" : `of ${maxConnections}`;
  const open: Line = {
    step: "open",
    ok: reason !== "connection_limit",
    text: `${limits.open(client)} connections of the client are open ${most}`,
    key: keys.maxConnections,
  };
  if (reason === "connection_limit") return { lines: [{ ...open, remedy }], reason };
  const tokens = limits.tokens(client, now);
  const bucket: Line = {
    step: "tokens",
    ok: reason === undefined,
    text:
      capacity === Infinity
        ? "there are no buckets"
        : `${tokens} of ${capacity} tokens are left; one comes back every ${formatDuration(fillRate)}`,
    key: keys.capacity,
    remedy,
  };
  const lines = [open, bucket];
  const status = fleet.status();
  if (reason !== undefined || status === undefined || config.fleet === undefined) return { lines, reason };
  const shared = fleetLine(status, config.fleet.whenDown, config.rateLimit);
  return { lines: [...lines, shared], reason: shared.ok === false ? "fleet_unavailable" : undefined };
}

/** The fleet's limits. The store is not asked: a question would take a place. */
function fleetLine(
  { node, nodes, degraded }: FleetStatus,
  whenDown: WhenDown,
  { capacity, fillRate, maxConnections }: ClientRule,
): Line {
  const open = maxConnections === undefined ? "any number of connections" : `${maxConnections} connections`;
  const tokens =
    capacity === Infinity ? "" : `, and ${capacity} tokens, one back every ${formatDuration(fillRate)}`;
  const key = degraded ? "fleet.whenDown" : "fleet";
  if (!degraded) {
    const text = `the store decides too: over ${nodes.length} nodes together the client may have ${open}${tokens}`;
    return { step: "fleet", ok: undefined, text, key, remedy: "See what it has: proxy clients --fleet" };
  }
  const away = `the store does not answer, and ${node}`;
  if (whenDown === "refuse") {
    const { remedy } = REFUSAL_REASONS.fleet_unavailable;
    return { step: "fleet", ok: false, text: `${away} refuses all clients`, key, remedy };
  }
  const share = whenDown === "share" ? `one of ${nodes.length} shares of ` : "";
  return {
    step: "fleet",
    ok: undefined,
    text: `${away} decides alone: the client has ${share}${open}${tokens}`,
    key,
  };
}

/** A target without health is tried all the same, but most likely in vain. */
function targetLine({ config, pools }: Subject, upstream: string, now: number): Line {
  const pool = pools.get(upstream)!;
  const place = `upstreams[${config.upstreams.findIndex(({ name }) => name === upstream)}]`;
  const slot = pool.balancer.peek(now);
  const atCap = capDetail(pool);
  if (atCap !== undefined) {
    const isFull = pool.balancer.full === "upstream_full";
    const { remedy } = REFUSAL_REASONS[isFull ? "connection_limit" : "no_target"];
    return {
      step: "target",
      ok: false,
      text: atCap,
      key: `${place}.${isFull ? "maxConnections" : "targets"}`,
      remedy,
    };
  }
  const target = slot === undefined ? undefined : pool.targets.get(slot);
  if (slot === undefined || target === undefined) {
    const text = `every target of ${quote(upstream)} is draining`;
    return { step: "target", ok: false, text, remedy: "Make one ready: proxy ready" };
  }
  const health = pool.balancer.health(slot, now);
  const text = `${formatAddress(target.address)}, which is ${health}, with ${pool.balancer.open(slot)} open`;
  return pool.balancer.healthy
    ? { step: "target", ok: true, text }
    : {
        step: "target",
        ok: false,
        text: `${text}; no target is healthy`,
        remedy: REFUSAL_REASONS.no_target.remedy,
      };
}

/** What became of a connection that is open, or of one that was refused lately; undefined if the id is of neither. */
export async function explainId(
  subject: Subject,
  recent: RecentRefusals,
  id: string,
): Promise<Explanation | undefined> {
  const refusal = recent.find(id);
  if (refusal !== undefined) return ofRefusal(subject, refusal.at, refusal.fields);
  const view = await connectionOf(subject, id);
  return view && ofConnection(subject, view);
}

type Fields = Readonly<Record<string, unknown>>;

function ofRefusal(subject: Subject, at: number, fields: Fields): Explanation {
  const text = (name: string) => (typeof fields[name] === "string" ? (fields[name] as string) : undefined);
  const [reason, detail, client] = [text("reason") as RefusalReason, text("detail"), text("client")];
  const { meaning, remedy } = REFUSAL_REASONS[reason] as Reason;
  const from = `${new Date(at).toISOString()}, ${whence(text("remote") ?? "unknown", text("peer"))}`;
  const then: Line = {
    step: "refused",
    ok: false,
    text: `${from}: ${meaning}${detail === undefined ? "" : ` Detail: ${detail}`}`,
    remedy,
  };
  const who = {
    client,
    listener: text("listener"),
    serverName: text("serverName"),
    remote: text("remote"),
    peer: text("peer"),
  };
  return { steps: [then, nowLine(subject, who)], client, reason, detail };
}

function ofConnection(subject: Subject, view: ConnectionView): Explanation {
  const { client, upstream, target, remote, peer, ageMs } = view;
  const to = target === undefined ? "" : ` to ${target}`;
  const age = formatDuration(Math.max(1_000, Math.floor(ageMs / 1_000) * 1_000));
  const then: Line = {
    step: "admitted",
    ok: true,
    text: `${quote(client)} from ${whence(remote, peer)}${to}, open for ${age}`,
  };
  return { steps: [then, nowLine(subject, view)], client, upstream };
}

function whence(remote: string, peer: string | undefined): string {
  return peer === undefined ? remote : `${remote} by the balancer ${peer}`;
}

interface Known {
  readonly client: string | undefined;
  readonly listener: string | undefined;
  readonly serverName: string | undefined;
  readonly remote: string | undefined;
  readonly peer: string | undefined;
}

/** What would become of the same client at this moment. The certificate is not kept: the identity is taken as verified. */
function nowLine(subject: Subject, { client, listener, serverName, remote, peer }: Known): Line {
  const places = subject.config.listeners.map(({ address }) => formatAddress(address));
  const place = places.indexOf(listener ?? "");
  if (client === undefined || place === -1) {
    const text = "not known: explain --live --cert asks with the client's certificate";
    return { step: "now", ok: undefined, text };
  }
  const { steps, upstream, reason } = explainLive(subject, {
    from: { client, group: client.slice(client.indexOf("@") + 1) },
    listener: place,
    serverName,
    address: remote === undefined ? undefined : hostOf(remote),
    peerAddress: peer === undefined ? undefined : hostOf(peer),
    date: Date.now(),
  });
  if (upstream !== undefined) return { step: "now", ok: true, text: `would be allowed: ${upstream}` };
  const why = steps.find(({ ok }) => ok === false);
  return {
    step: "now",
    ok: false,
    text: `would be refused: ${reason}: ${why?.text}`,
    key: why?.key,
    remedy: why?.remedy,
  };
}

type Asked = ThreadQuestion & { about: "connections" };

/** Connections that a thread looks at in one turn. */
const BATCH = 500;

async function connectionOf(subject: Subject, id: string): Promise<ConnectionView | undefined> {
  for (const thread of threadsOf(subject)) {
    for (let after: number | undefined = 0; after !== undefined;) {
      const question: Asked = { about: "connections", filter: { id }, after, limit: BATCH };
      const answer: Answers["connections"] | undefined | "late" = await answered(
        subject.runner.askThread(thread, question),
      );
      // A thread that has died has no connections any more.
      if (answer === undefined || answer === "late") break;
      if (answer.lines !== "") return JSON.parse(answer.lines) as ConnectionView;
      after = answer.next;
      await new Promise(setImmediate);
    }
  }
  return undefined;
}
