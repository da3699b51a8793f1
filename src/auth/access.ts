// Who may reach an upstream: everybody, the members of groups, or single clients. Pure.

/** An upstream's rule. `anyGroup` stands alone; otherwise at least one list has an entry. */
export interface Access {
  readonly authorizedGroups: readonly string[];
  /** `user@group`. */
  readonly authorizedClients: readonly string[];
  readonly anyGroup: boolean;
}

/** The key that lets a client through. */
export type AccessKey = keyof Access;

/** The key that lets this client through; undefined if it may not reach the upstream. */
export function accessOf(
  { authorizedGroups, authorizedClients, anyGroup }: Access,
  client: string,
  group: string,
): AccessKey | undefined {
  if (anyGroup) return "anyGroup";
  if (authorizedGroups.includes(group)) return "authorizedGroups";
  return authorizedClients.includes(client) ? "authorizedClients" : undefined;
}

/**
 * The groups under which admissions are counted, each once: those that the configuration names. With `anyGroup` it is
 * `""` alone, so that no client chooses the name of a counter.
 */
export function countedGroups({ authorizedGroups, authorizedClients, anyGroup }: Access): string[] {
  if (anyGroup) return [""];
  const ofClients = authorizedClients.map((client) => client.slice(client.indexOf("@") + 1));
  return [...new Set([...authorizedGroups, ...ofClients])];
}
