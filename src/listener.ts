// Where clients come in: the only place that calls Bun.listen with TLS. Everything about the TLS policy is here.

import { formatAddress, type Address } from "./address.ts";
import type { Credentials } from "./credentials.ts";
import { cannotListen } from "./errors.ts";

/** An open port. */
export interface Listener {
  /** The address as bound, with the port that the system picked if it was 0. */
  readonly address: Address;
  /** Accepts no more; what was accepted goes on. */
  stop(): void;
}

// BoringSSL's numbers for the options; TLS 1.3 is what remains (RFC 8446).
const SSL_OP_NO_TLSv1 = 0x04000000;
const SSL_OP_NO_TLSv1_1 = 0x10000000;
const SSL_OP_NO_TLSv1_2 = 0x08000000;
// A resumed session is not verified again: an expired certificate would be let in. No tickets, no resumption.
const SSL_OP_NO_TICKET = 0x00004000;

/**
 * Opens the port: TLS 1.3 only, a client certificate demanded.
 * @throws StartError where the address cannot be had
 */
export function listen<Data>(
  address: Address,
  credentials: Credentials,
  handlers: Bun.SocketHandler<Data>,
): Listener {
  const { ca, cert, key, crl } = credentials;
  const bind = (hostname: string) =>
    Bun.listen<Data>({
      hostname,
      port: address.port,
      exclusive: true,
      // Without it Bun answers the client's end with its own, and there is no half-close.
      allowHalfOpen: true,
      tls: {
        ca,
        cert,
        key,
        crl,
        // Both are needed: without rejectUnauthorized a client without a certificate gets through the handshake.
        requestCert: true,
        rejectUnauthorized: true,
        secureOptions: SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_TLSv1_2 | SSL_OP_NO_TICKET,
      },
      socket: handlers,
    });
  try {
    const server = address.hostname === "" ? bindEverywhere(bind) : bind(address.hostname);
    return {
      address: { hostname: server.hostname, port: server.port },
      stop: () => server.stop(),
    };
  } catch (error) {
    throw cannotListen(formatAddress(address), error);
  }
}

/** Every interface: the IPv6 wildcard takes IPv4 too, but a machine may have no IPv6. */
function bindEverywhere<T>(bind: (hostname: string) => T): T {
  try {
    return bind("::");
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EADDRINUSE" || code === "EACCES") throw error;
    return bind("0.0.0.0");
  }
}
