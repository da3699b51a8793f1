// Why connections are refused and why they end: the stable codes of the log, what each means and what to do about it.
// The types, `proxy help reasons` and README.md beside this file come from here.

/** What a code means, and what the operator does about it. */
export interface Reason {
  readonly meaning: string;
  readonly remedy: string;
}

export const REFUSAL_REASONS = {
  handshake_failed: {
    meaning:
      "No TLS 1.3 handshake. Most likely the client does not trust the proxy; or it is a scan, plain text, an old TLS version, a TCP check.",
    remedy: "See `detail`. Give the client the CA of the proxy's certificate.",
  },
  handshake_timeout: {
    meaning: "The handshake was not finished within `handshakeTimeout`.",
    remedy: "Many from one address are an attack or a broken network.",
  },
  certificate_missing: {
    meaning: "The client presented no certificate.",
    remedy: "Configure the client with a certificate and its key.",
  },
  certificate_untrusted: {
    meaning:
      "No chain to the CA: signed by another CA, an intermediate is missing, not for client authentication, or a CRL is missing or outdated.",
    remedy: "See `detail`. Issue the certificate from the right CA, or renew the CRL.",
  },
  certificate_expired: {
    meaning: "The certificate is outside its validity, before or after.",
    remedy: "Renew it, or set the clock.",
  },
  certificate_revoked: {
    meaning: "The certificate is listed in the CRL.",
    remedy: "Somebody uses what was taken away: find out who.",
  },
  certificate_weak: {
    meaning: "The chain has an RSA key below 2048 bits, or a signature with SHA-1 or MD5 below the root.",
    remedy: "See `detail`. Issue the certificate anew.",
  },
  identity_invalid: {
    meaning: "The certificate is trusted, but its Common Name is not exactly one `user@group`.",
    remedy: "See `detail`. Issue a proper certificate.",
  },
  unknown_server_name: {
    meaning: "No upstream takes the server name that the client asked for, or none at all.",
    remedy: "See `detail`. Set the server name in the client, or add it to `serverNames`.",
  },
  group_not_authorized: {
    meaning: "The upstream does not list the client's group.",
    remedy: "Add the group to `authorizedGroups`; case matters.",
  },
  connection_limit: {
    meaning: "The client has `rateLimit.maxConnections` connections open.",
    remedy: "Look for a leak in the client, or raise the limit.",
  },
  rate_limited: {
    meaning: "The client's token bucket is empty: it connects faster than the bucket fills.",
    remedy: "Use a connection pool, or raise `rateLimit.capacity`, or shorten `rateLimit.fillRate`.",
  },
  fleet_unavailable: {
    meaning: 'The store of the fleet did not answer, and `fleet.whenDown` is `"refuse"`.',
    remedy:
      "See the `fleet store unavailable` line before. Bring the store back, or choose another `fleet.whenDown`.",
  },
  source_limited: {
    meaning: "The client's address has used up what strangers may cost. The connection is closed before TLS.",
    remedy:
      "Stop what fails there, or raise `handshakes.failures`, or list a load balancer in `handshakes.exempt`.",
  },
  overloaded: {
    meaning: "All clients together have `maxConnections` connections open.",
    remedy: "Raise it and the descriptor limit, or find out who holds the connections.",
  },
  no_target: {
    meaning: "No target of the upstream answered.",
    remedy: "See the `target failed` lines before.",
  },
  proxy_header: {
    meaning: "Who is calling does not fit into a PROXY protocol header: a name of more than some 270 bytes.",
    remedy: "Issue a certificate with a shorter Common Name.",
  },
} as const satisfies Record<string, Reason>;

export const CLOSE_REASONS = {
  closed: {
    meaning: "Both sides ended and every byte was delivered.",
    remedy:
      "Nothing. With `bytesIn` 0 and `endedBy` `client`, the client may not trust the proxy's certificate.",
  },
  client_reset: { meaning: "The client broke the connection off.", remedy: "Look at the client." },
  upstream_reset: { meaning: "The target broke the connection off.", remedy: "Look at the target." },
  client_error: { meaning: "The client broke the TLS protocol.", remedy: "Look at the client." },
  idle_timeout: {
    meaning: "No byte went in either direction for `timeout`.",
    remedy: "Raise `timeout`, or have the client send keepalives.",
  },
  max_duration: {
    meaning: "The connection was open for `maxConnectionDuration`.",
    remedy: "The client connects again.",
  },
  certificate_expired: {
    meaning: "The client's certificate expired while it was connected.",
    remedy: "Renew it. `disconnectExpired = false` lets such connections go on.",
  },
  authorization_revoked: {
    meaning: "A reload took away what had let the client in.",
    remedy: "See `detail`.",
  },
  shutdown: {
    meaning: "The connection was still open at the end of the shutdown.",
    remedy: "Raise `shutdownTimeout` if connections need longer.",
  },
  internal_error: {
    meaning: "A bug in the proxy.",
    remedy: "Report the line before it, which has the error.",
  },
} as const satisfies Record<string, Reason>;

/** Why a connection was refused. The codes are stable: dashboards and alerts are built on them. */
export type RefusalReason = keyof typeof REFUSAL_REASONS;

/**
 * Why an admitted connection ended. Only `closed` is an orderly end, passed on as one; after any other the client sees
 * its connection close without a close_notify and the upstream sees a reset, so that neither takes half a stream for a
 * whole one.
 */
export type CloseReason = keyof typeof CLOSE_REASONS;
