// The further certificates of a listener: which server names each is for. Pure.

import type { X509Certificate } from "node:crypto";
import { parseServerName } from "../auth/server-name.ts";
import { quote } from "../lib/errors.ts";

/** A further certificate of a listener, as PEM, and the server names of the clients that see it. */
export interface NamedCertificate {
  readonly cert: string;
  readonly key: string;
  /** The kind of its key, such as `rsa` or `ec`. A server name may have a certificate of each kind. */
  readonly keyType: string;
  /** At least one, each in the form that `parseServerName` returns. */
  readonly serverNames: readonly string[];
}

/** The DNS names in a certificate that a client can ask for. Values with a comma or a quote are in quotes. */
export function namesIn({ subjectAltName = "" }: Pick<X509Certificate, "subjectAltName">): string[] {
  const values = subjectAltName.matchAll(/(?:^|, )(\w[\w ]*):("(?:[^"\\]|\\.)*"|[^,]*)/g);
  const names = Array.from(values, ([, kind, value]) =>
    kind === "DNS" ? parseServerName(value) : undefined,
  );
  return [...new Set(names.filter((name) => name !== undefined))];
}

/** Those of these server names that the certificate does not hold, so that clients refuse it. */
export function namesMissingIn(certificate: X509Certificate, serverNames: readonly string[]): string[] {
  // Anything may stand for a star: a certificate holds it only by a star of its own. A name at fault is "".
  return serverNames.filter(
    (name) => name !== "" && certificate.checkHost(name.replace("*", "any")) === undefined,
  );
}

/**
 * Finds server names that several certificates with keys of the same kind claim.
 * @returns the place of each second one, with the fault
 */
export function claimedTwice(
  all: readonly Pick<NamedCertificate, "serverNames" | "keyType">[],
  key: string,
): { readonly place: number; readonly problem: string }[] {
  const owners = new Map<string, number>();
  return all.flatMap(({ serverNames, keyType }, place) =>
    serverNames.flatMap((name) => {
      const claim = `${keyType} ${name}`;
      const owner = owners.get(claim);
      if (owner === undefined) owners.set(claim, place);
      if (owner === undefined || name === "") return [];
      const problem =
        owner === place
          ? `${quote(name)} is given twice`
          : `${quote(name)} is taken by ${key}[${owner}]; a server name has one certificate for each kind of key`;
      return [{ place, problem }];
    }),
  );
}

/** What the certificate is called in warnings and in `proxy check`. */
export function nameOfCertificate({ serverNames, keyType }: NamedCertificate): string {
  const [first = "", ...others] = serverNames;
  const more = others.length === 0 ? "" : ` and ${others.length} more`;
  return `the proxy's certificate for ${quote(first)}${more} (${keyType.toUpperCase()})`;
}
