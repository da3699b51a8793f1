// `proxy schema`: the configuration's JSON Schema, for editors.

import { jsonSchema } from "../config/json-schema.ts";
import { DONE, print, type Command } from "./command.ts";

export const schema: Command = {
  usage: "schema",
  summary: "Print the configuration's JSON Schema, for completion and checks in editors",
  flags: {},
  examples: ["schema > proxy.schema.json"],
  async run() {
    print(JSON.stringify(jsonSchema(), null, 2));
    return DONE;
  },
};
