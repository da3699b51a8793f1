// The JSON Schema (2020-12) of a configuration file, for editors that complete and check TOML, YAML and JSON. Pure.

import { SCHEMA } from "./schema.ts";

/** The output of `proxy schema`. It describes a file that is complete without flags. */
export function jsonSchema(): object {
  const { properties, ...rest } = SCHEMA.schema;
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "tcpproxy",
    description: "The configuration file of tcpproxy: TOML, YAML or JSON.",
    ...rest,
    properties: {
      $schema: { type: "string", description: "Where this schema is, for editors. The proxy ignores it." },
      ...(properties as object),
    },
    oneOf: [{ required: ["listener"] }, { required: ["listeners"] }],
  };
}
