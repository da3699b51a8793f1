// Puts a decision into words: each step that `decide` takes, the configuration key that decided it, and what would
// change it. It decides nothing itself. Pure.

import type { X509Certificate } from "node:crypto";
import { kindName } from "../auth/identity-rule.ts";
import { networkDetail, placeOf } from "../auth/networks.ts";
import type { Config, Listener } from "../config/config.ts";
import type { RefusalReason } from "../lib/errors.ts";
import { suggest } from "../lib/suggest.ts";
import { encodeProxyHeader } from "../upstreams/proxy-protocol.ts";
import {
  blockDetail,
  decide,
  type ActiveConfig,
  type Grant,
  type ListenerState,
  type Presented,
  type Question,
  type Step,
} from "./decision.ts";
import { certificateLines } from "./explanation-certificate.ts";
import { short, type Line } from "./explanation-line.ts";

/** A decision in words: `upstream` if the client is allowed, else `reason`. */
export interface Explanation {
  readonly steps: readonly Line[];
  readonly client?: string | undefined;
  readonly upstream?: string | undefined;
  readonly reason?: RefusalReason | undefined;
  readonly detail?: string | undefined;
}

/** The rules that an explanation is about. */
export interface ExplainedRules {
  readonly rules: Pick<ActiveConfig, "router" | "pools" | "blocks"> & { readonly config: Config };
  /** The configuration's entry for the question's listener. */
  readonly place: Listener;
  /** Whether the rules are those of a running proxy, which knows who is blocked. */
  readonly live: boolean;
}

/** A client that comes with these certificates, its own first. */
export function presenting([leaf, ...above]: readonly X509Certificate[]): Presented {
  return { certificate: leaf, chain: () => above.map(({ raw }) => raw), vouched: false, fresh: true };
}

export function explain(question: Question, about: ExplainedRules): Explanation {
  const steps: Line[] = [];
  const decision = decide(
    question,
    about.rules,
    (step) => void steps.push(...linesOf(step, question, about)),
  );
  if (!("reason" in decision)) {
    const header = headerLine(decision, question, about.rules.config);
    if (header !== undefined) steps.push(header);
    const { client, upstream } = decision;
    if (header?.ok === false) return { steps, client, reason: "proxy_header" };
    return { steps, client, upstream };
  }
  const { client, reason, detail } = decision;
  return { steps, client, reason, detail };
}

function linesOf(step: Step, question: Question, about: ExplainedRules): Line[] {
  const { config } = about.rules;
  switch (step.name) {
    case "listener":
      return [listenerLine(step.ok, question.listener, about)];
    case "balancer":
      return [balancerLine(step.ok, question, about)];
    case "address":
      return [addressLine(step, question, about)];
    case "certificate":
      return certificateLines(step, question, about.place);
    case "identity":
      return [identityLine(step, question, about)];
    case "blocks":
      return [blocksLine(step, about)];
    case "route":
      return [routeLine(step, question, about)];
    case "authorization":
      return [authorizationLine(step, config)];
  }
}

function listenerLine(ok: boolean, { address }: ListenerState, { place }: ExplainedRules): Line {
  return ok
    ? { step: "listener", ok, text: address, key: `${place.key}.address` }
    : { step: "listener", ok, text: `${address} was removed by a reload`, remedy: "Configure it again." };
}

function balancerLine(
  ok: boolean,
  { address, peerAddress }: Question,
  { place: { key } }: ExplainedRules,
): Line {
  const own = `${key}.acceptProxy.from`;
  if (ok) {
    const text = peerAddress === undefined ? "none: no PROXY header is read" : `${peerAddress} is one`;
    return { step: "balancer", ok, text, key: own };
  }
  return peerAddress === undefined
    ? {
        step: "balancer",
        ok,
        text: `${address} is one, and must send a PROXY header first`,
        key: own,
        remedy: "Have it send one, or take it out of the list; or ask with the caller's address.",
      }
    : { step: "balancer", ok, text: `${peerAddress} is none any more`, key: own, remedy: "Add it." };
}

function addressLine(
  { ok, list }: Step & { name: "address" },
  { address }: Question,
  { place: { key, allow, deny } }: ExplainedRules,
): Line {
  if (address === undefined) {
    const text = "not checked: the question does not say where the client comes from";
    return { step: "address", ok: undefined, text };
  }
  if (list === "deny") {
    const decided = `${key}.deny[${placeOf(address, deny)}]`;
    return { step: "address", ok, text: `${address} is denied`, key: decided, remedy: "Take the range out." };
  }
  if (list === "allow") {
    const text = `${address} is ${networkDetail(list)}`;
    return { step: "address", ok, text, key: `${key}.allow`, remedy: "Add the address, or its range." };
  }
  return {
    step: "address",
    ok,
    text: `${address} may connect`,
    key: allow === undefined ? `${key}.deny` : `${key}.allow[${placeOf(address, allow)}]`,
  };
}

function identityLine(
  { ok, client, fault = "" }: Step & { name: "identity" },
  { from, listener: { identity } }: Question,
  { place }: ExplainedRules,
): Line {
  const { pattern } = identity.settings ?? {};
  const key = pattern === undefined ? undefined : `${place.key}.identity`;
  const taken = "client" in from ? ", taken as verified" : "";
  return ok
    ? { step: "identity", ok, text: `${short(client)}${taken}`, ...(key && { key }) }
    : {
        step: "identity",
        ok,
        text: fault,
        ...(key && { key }),
        remedy:
          pattern === undefined
            ? "Issue a certificate whose Common Name is exactly one user@group."
            : `Issue a certificate with exactly one ${kindName(identity)}, of the form ${pattern}.`,
      };
}

function blocksLine({ ok, block }: Step & { name: "blocks" }, { live }: ExplainedRules): Line {
  if (block !== undefined) {
    const remedy = `An operator ends it: proxy unblock ${block.subject}`;
    return { step: "blocks", ok, text: blockDetail(block), remedy };
  }
  return live
    ? { step: "blocks", ok, text: "not blocked" }
    : { step: "blocks", ok: undefined, text: "not checked offline" };
}

function routeLine(
  { ok, upstream, pinned }: Step & { name: "route" },
  { serverName }: Question,
  { rules: { router, config }, place }: ExplainedRules,
): Line {
  const asked = serverName === undefined ? "no server name is asked for" : short(serverName);
  if (!ok) {
    const names = config.upstreams.flatMap(({ serverNames = [] }) => serverNames);
    const near = serverName === undefined ? undefined : suggest(serverName, names);
    const hint = near === undefined ? "" : ` (did you mean ${near}?)`;
    return {
      step: "route",
      ok,
      text: `${asked}${serverName === undefined ? "" : " is no upstream's"}, and there is no fallback`,
      key: "upstreams[].serverNames",
      remedy: `Set the server name in the client${hint}, or add it to an upstream's serverNames.`,
    };
  }
  const to = short(upstream);
  if (pinned)
    return { step: "route", ok, text: `${to}, for every server name`, key: `${place.key}.upstream` };
  const own = keyOf(config, upstream);
  const pattern = router.pattern(serverName);
  if (pattern === undefined) {
    return { step: "route", ok, text: `${asked}: to the fallback, ${to}`, key: `${own}.serverNames` };
  }
  const names = config.upstreams.find(({ name }) => name === upstream)?.serverNames ?? [];
  return {
    step: "route",
    ok,
    text: `${asked} to ${to}`,
    key: `${own}.serverNames[${names.indexOf(pattern)}]`,
  };
}

function authorizationLine(
  { ok, upstream, client, group, by }: Step & { name: "authorization" },
  config: Config,
): Line {
  const own = keyOf(config, upstream);
  const { authorizedGroups: groups = [], authorizedClients: clients = [] } =
    config.upstreams.find(({ name }) => name === upstream) ?? {};
  const it = `the group ${short(group)}`;
  if (by !== undefined) {
    const [who, key] = {
      authorizedGroups: [it, `authorizedGroups[${groups.indexOf(group)}]`],
      authorizedClients: [`the client ${short(client)}`, `authorizedClients[${clients.indexOf(client)}]`],
      anyGroup: ["everybody with a valid identity", "anyGroup"],
    }[by] as [string, string];
    return { step: "authorization", ok, text: `${who} may reach ${short(upstream)}`, key: `${own}.${key}` };
  }
  const key = `${own}.${groups.length === 0 ? "authorizedClients" : "authorizedGroups"}`;
  const near = groups.find((each) => each.toLowerCase() === group.toLowerCase());
  const hint = near === undefined ? "" : `; ${short(near)} is, and case matters`;
  return {
    step: "authorization",
    ok,
    text:
      clients.length === 0
        ? `${it} is not listed for ${short(upstream)}${hint}`
        : `neither ${it} nor the client ${short(client)} is listed for ${short(upstream)}${hint}`,
    key,
    remedy:
      groups.length === 0
        ? `Add ${short(client)} to it, or ${short(group)} to authorizedGroups.`
        : `Add ${short(group)} to it, or issue a certificate for a group that is listed.`,
  };
}

/** A header that is only a little longer or shorter than the one of a real connection. */
function headerLine(
  { client, pool }: Grant,
  { serverName, address }: Question,
  config: Config,
): Line | undefined {
  const version = pool.upstream.proxyProtocol;
  if (version === undefined) return undefined;
  const end = { hostname: address ?? "192.0.2.1", port: 65_535 };
  const header = encodeProxyHeader(version, {
    source: end,
    destination: end,
    client,
    tlsVersion: "TLSv1.3",
    cipher: "TLS_CHACHA20_POLY1305_SHA256",
    serverName,
    alpn: undefined,
    resumed: false,
    uniqueId: "00000000-0000",
  });
  const key = `${keyOf(config, pool.upstream.name)}.proxyProtocol`;
  return header === undefined
    ? {
        step: "proxy header",
        ok: false,
        text: "the client's name does not fit into a PROXY header",
        key,
        remedy: "Issue a certificate with a shorter Common Name.",
      }
    : { step: "proxy header", ok: true, text: `PROXY ${version}`, key };
}

function keyOf({ upstreams }: Config, name: string | undefined): string {
  return `upstreams[${upstreams.findIndex((each) => each.name === name)}]`;
}
