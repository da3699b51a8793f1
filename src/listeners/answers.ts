// What a port answers in a handshake by what the client asks for: the certificate of a server name, and a protocol.

import { createSecureContext, type TlsOptions } from "node:tls";
import { matchServerName } from "../auth/server-name.ts";
import type { NamedCertificate } from "../config/named-certificates.ts";
import { chooseProtocol } from "../lib/alpn.ts";

/** Gives the whole policy of the listener to these certificates and keys, as options of node:tls. */
export type WithPolicy = (cert: string[], key: string[]) => object;

/**
 * BoringSSL keeps the listener's rules for versions and client certificates, but verifies clients by the CAs of the chosen
 * context. Each context has all of it, so that no server name has a policy of its own. A ticket is good for its own
 * context only.
 */
export class Answers {
  /** The runtime's own TLS contexts, by server name. */
  #contexts: ReadonlyMap<string, object> = new Map();
  #alpn: readonly string[] | undefined;

  /** @throws if TLS cannot use the certificates; then nothing has changed */
  replace(
    certificates: readonly NamedCertificate[] | undefined,
    alpn: readonly string[] | undefined,
    withPolicy: WithPolicy,
  ): void {
    this.#contexts = contextsOf(certificates ?? [], withPolicy);
    this.#alpn = alpn;
  }

  /**
   * The runtime calls these only for clients that use ALPN, or send a server name; Bun's types leave them out.
   * (ALPNProtocols would end the handshakes of clients that offer other protocols only.)
   */
  readonly handlers: object = {
    alpnCallback: (_socket: unknown, _serverName: unknown, offered: Uint8Array) =>
      chooseProtocol(offered, this.#alpn),
    // Undefined stands for the listener's own context.
    serverName: (_data: unknown, asked: string) => {
      if (this.#contexts.size === 0) return undefined;
      const name = matchServerName(this.#contexts, asked);
      return name === undefined ? undefined : this.#contexts.get(name);
    },
  };
}

function contextsOf(
  certificates: readonly NamedCertificate[],
  withPolicy: WithPolicy,
): ReadonlyMap<string, object> {
  const byName = Map.groupBy(
    certificates.flatMap((each, i) => each.serverNames.map((name) => ({ ...each, i, name }))),
    ({ name }) => name,
  );
  const made = new Map<string, object>();
  const contexts = new Map<string, object>();
  for (const [name, all] of byName) {
    // Several have keys of different kinds: BoringSSL chooses the one that the client can verify.
    const places = all.map(({ i }) => i).join();
    const context = made.get(places) ?? contextOf(withPolicy(...pairsOf(all)));
    made.set(places, context);
    contexts.set(name, context);
  }
  return contexts;
}

function pairsOf(all: readonly NamedCertificate[]): [cert: string[], key: string[]] {
  return [all.map(({ cert }) => cert), all.map(({ key }) => key)];
}

/** The runtime's own context is within that of node:tls, whose types leave it out. */
export function contextOf(options: object): object {
  return (createSecureContext(options as TlsOptions) as unknown as { context: object }).context;
}
