// A port for a program that cannot say which one the system picked.

/** Ports that were given out: the system may pick one again as soon as nobody listens on it. */
const given = new Set<number>();

/** A port of 127.0.0.1 on which nobody listens now; a new one each time. */
export function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  // Closed only once there is another: the system does not pick it twice in a row then.
  const { port } = given.has(probe.port) ? { port: freePort() } : probe;
  probe.stop(true);
  given.add(port);
  return port;
}
