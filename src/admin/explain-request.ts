// `POST /v1/explain`: `{ "id" }`, or `{ "client" or "certificate", "serverName", "listener", "from", "at" }`. It changes nothing;
// it is a POST because a certificate does not fit into an address.

import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { isClientPattern } from "../auth/identity.ts";
import { readPem } from "../auth/pem.ts";
import { listenerFor } from "../config/listener-for.ts";
import { presenting } from "../connection/explanation.ts";
import { parseMoment } from "../lib/moment.ts";
import { explainId, explainLive, type LiveQuestion } from "./explain.ts";
import { json, Refused, type Answer, type Call } from "./route.ts";

const KEYS = ["id", "client", "certificate", "serverName", "listener", "from", "at"];

/** A chain that TLS would take. */
const MAX_CERTIFICATES = 16;

/** @throws Refused where the question is none, or the id is not known */
export async function explain({ subject, recent, body }: Call): Promise<Answer> {
  for (const [key, value] of Object.entries(body)) {
    if (!KEYS.includes(key))
      throw new Refused(400, `the body has an unknown key; known here: ${KEYS.join(", ")}`);
    if (typeof value !== "string") throw new Refused(400, `${key} is not text`);
  }
  const { id, ...asked } = body as Partial<Record<string, string>>;
  if (id === undefined) return json(explainLive(subject, questionOf(asked, subject.config)));
  if (Object.keys(asked).length > 0) throw new Refused(400, "id stands alone");
  const found = await explainId(subject, recent, id);
  if (found === undefined) throw new Refused(404, "no open connection and no refusal of late has this id");
  return json(found);
}

function questionOf(
  { client, certificate, serverName, listener: wanted, from: address, at }: Partial<Record<string, string>>,
  config: Call["subject"]["config"],
): LiveQuestion {
  if ((client === undefined) === (certificate === undefined)) {
    throw new Refused(400, "either client or certificate is needed");
  }
  if (address !== undefined && isIP(address) === 0) throw new Refused(400, "from is not an IP address");
  const date = at === undefined ? Date.now() : parseMoment(at);
  if (date === undefined) throw new Refused(400, "at is not a date");
  const listener = listenerFor(config, wanted);
  if (typeof listener === "object") throw new Refused(400, `listener: ${listener.problem}`);
  const from = certificate === undefined ? identityIn(client ?? "") : presenting(certificatesIn(certificate));
  return { from, listener, serverName, address, date };
}

function identityIn(client: string): { client: string; group: string } {
  if (!isClientPattern(client) || client.startsWith("*")) throw new Refused(400, "client is not user@group");
  return { client, group: client.slice(client.indexOf("@") + 1) };
}

function certificatesIn(text: string): X509Certificate[] {
  const { blocks, damage } = readPem(text);
  const own = blocks.filter(({ label }) => label === "CERTIFICATE");
  if (damage !== undefined || own.length === 0 || own.length > MAX_CERTIFICATES) {
    throw new Refused(400, "certificate is not PEM of a certificate and its chain");
  }
  try {
    return own.map(({ pem }) => new X509Certificate(pem));
  } catch {
    throw new Refused(400, "certificate is damaged");
  }
}
