// What is compared: this proxy as it is, the same with one thing changed, the others, and what is left when the proxy is
// taken away. A difference between two of them is what the change does.

import { ourselves, PEERS, type Peer } from "../peers.ts";

/** A contestant. */
export interface Variant {
  readonly name: string;
  /** Undefined for none: the load goes straight to the backend, without TLS. */
  readonly peer: Peer | undefined;
  readonly env?: Readonly<Record<string, string>>;
  /** The proxy keeps to one core, the load and the backend to another. */
  readonly pinned?: true;
  /** Not for the handshake storm. */
  readonly calm?: true;
}

const MiB = 2 ** 20;

/** All of them; `program` is the built binary. */
export function variantsOf(program: string): Variant[] {
  const can = { tickets: true, workers: true, fleet: true, watched: true };
  const ours = ourselves(program, can);
  const altered = (alter: (text: string) => string): Peer => ({
    ...ours,
    command(setup) {
      const { args, files } = ours.command(setup);
      const changed = Object.entries(files).map(([name, text]) => [name, alter(text)] as const);
      return { args: args.map(alter), files: Object.fromEntries(changed) };
    },
  });
  const relay: Peer = {
    ...ours,
    name: "relay",
    program: process.execPath,
    command: ({ port, backend, certs }) => ({
      args: [`${import.meta.dir}/relay.ts`, String(port), String(backend), certs],
      files: {},
    }),
  };
  return [
    { name: "no proxy, no TLS", peer: undefined, calm: true },
    { name: "bare relay", peer: relay },
    { name: "tcpproxy", peer: ours },
    {
      name: "… collects only after 256 MiB",
      peer: ours,
      env: { BUN_JSC_gcMaxHeapSize: String(256 * MiB) },
    },
    { name: "… collects on one thread", peer: ours, env: { BUN_JSC_numberOfGCMarkers: "1" } },
    {
      name: "… ticks every 10 ms, not 250",
      peer: altered((text) => text.replace('timeout = "1h"', 'timeout = "1h"\nconnectTimeout = "200ms"')),
    },
    { name: "… logs at info to a file", peer: altered((text) => (text === "silent" ? "info" : text)) },
    { name: "… has a core of its own", peer: ours, pinned: true, calm: true },
    ...PEERS.filter((peer) => peer.program !== null).map((peer) => ({ name: peer.name, peer })),
  ];
}
