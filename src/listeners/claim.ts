// Who may have a port: one that this process alone opens, one that it shares, one that others have.

import { formatAddress, type Address } from "../lib/address.ts";
import { StartError, cannotListen } from "../lib/errors.ts";
import { isFree, libc, listenerOf } from "../lib/libc.ts";

/** A port that only this process may open. */
export interface Claim {
  release(): void;
}

/** How long to ask for a name's user when there is no answer, in milliseconds: a proxy's claim always answers. */
const CLAIM_ANSWER_WAIT_MS = 500;

/**
 * Claims a port for this process. Its threads open the port in a way that the kernel also allows other processes of the
 * same user. The claim is a name among the kernel's local sockets, and it ends with the process. Any user can take any
 * name, so that a name counts only if the kernel says that this user listens on it. If another user has taken the usual
 * name, the claim adds a part that cannot be guessed.
 * @throws StartError if another process of this user has claimed the port
 */
export async function claimPort(address: Address): Promise<Claim> {
  if (process.platform !== "linux") return { release() {} };
  const usual = signOf(address);
  let name = usual;
  let sign = raise(name);
  if (sign === "taken") {
    if (await keeps([usual])) throw isKept(address);
    name = `${usual} ${crypto.randomUUID()}`;
    sign = raise(name);
  }
  // A host whose name is too long for a claim goes without one.
  if (typeof sign === "string") return { release() {} };
  const release = () => sign.stop(true);
  // Another process of this user may have had to take an unusual name.
  if (!(await keeps(await signsOn(address, name)))) return { release };
  release();
  throw isKept(address);
}

/**
 * Checks that a port can be shared: every process that has it must share it.
 * @throws StartError if another process of this user has claimed the port; the kernel refuses other users
 */
export async function mayShare(address: Address): Promise<void> {
  if (await keeps(await signsOn(address))) throw isKept(address);
}

function signOf(address: Address): string {
  return `tcpproxy ${process.geteuid?.()} ${formatAddress(address)}`;
}

function raise(name: string): Bun.UnixSocketListener<undefined> | "taken" | "impossible" {
  try {
    const sign = Bun.listen({
      unix: `\0${name}`,
      socket: { open: (socket) => socket.terminate(), data() {} },
    });
    sign.unref();
    return sign;
  } catch (error) {
    return (error as { code?: string }).code === "EADDRINUSE" ? "taken" : "impossible";
  }
}

/** All claims on a port, of any process, except one's own. */
async function signsOn(address: Address, own?: string): Promise<string[]> {
  // A system without this list has no such names.
  const list = await Bun.file("/proc/net/unix")
    .text()
    .catch(() => "");
  const sign = signOf(address);
  return list
    .split("\n")
    .map((line) => line.slice(line.indexOf(" @") + 2))
    .filter((name) => name !== own && (name === sign || name.startsWith(`${sign} `)));
}

/** Whether a process of this user listens on one of these names. */
async function keeps(names: readonly string[]): Promise<boolean> {
  if (names.length === 0) return false;
  const calls = await libc();
  // The owner cannot be determined: refusing is better than sharing a port unnoticed.
  if (calls === undefined) return true;
  const deadline = performance.now() + CLAIM_ANSWER_WAIT_MS;
  for (let left = names; left.length > 0 && performance.now() < deadline; await Bun.sleep(1)) {
    const users = left.map((name) => listenerOf(calls, name));
    if (users.includes(process.geteuid?.())) return true;
    left = left.filter((_, i) => users[i] === undefined);
    if (left.length === 0) return false;
  }
  return false;
}

function isKept(address: Address): StartError {
  return cannotListen(formatAddress(address), Object.assign(new Error("kept"), { code: "EADDRINUSE" }));
}

/**
 * Checks that no other process has the port. Processes that share a port do not notice each other.
 * @throws StartError if another process has it
 */
export async function probePort({ hostname, port }: Address): Promise<void> {
  if (port === 0 || (await isFree(hostname === "" ? "::" : hostname, port))) return;
  // Opens the port for a moment: that gives a certain answer, with the error.
  const bind = (host: string) => Bun.listen({ hostname: host, port, exclusive: true, socket: { data() {} } });
  try {
    (hostname === "" ? bindEverywhere(bind) : bind(hostname)).stop(true);
  } catch (error) {
    throw cannotListen(formatAddress({ hostname, port }), error);
  }
}

/** Binds to every interface: the IPv6 wildcard takes IPv4 too, but a machine may have no IPv6. */
export function bindEverywhere<T>(bind: (hostname: string) => T): T {
  try {
    return bind("::");
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EADDRINUSE" || code === "EACCES") throw error;
    return bind("0.0.0.0");
  }
}
