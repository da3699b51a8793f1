// A validator for the part of JSON Schema that the configuration's schema uses. An unknown keyword is an error.

type Schema = Readonly<Record<string, unknown>>;

const ANNOTATIONS = ["$schema", "title", "description", "default", "examples"];

/** Whether a JSON value is valid. */
export function isValid(schema: Schema, value: unknown): boolean {
  return Object.entries(schema).every(([keyword, rule]) => {
    if (ANNOTATIONS.includes(keyword) || keyword === "additionalProperties") return true;
    const check = CHECKS[keyword];
    if (check === undefined) throw new Error(`unknown keyword ${keyword}`);
    return check(rule as never, value, schema);
  });
}

const isTable = (value: unknown): value is Schema =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const TYPES: Record<string, (value: unknown) => boolean> = {
  string: (value) => typeof value === "string",
  boolean: (value) => typeof value === "boolean",
  integer: (value) => Number.isInteger(value),
  array: (value) => Array.isArray(value),
  object: isTable,
};

const CHECKS: Record<string, (rule: never, value: unknown, schema: Schema) => boolean> = {
  type: (type: string, value) => TYPES[type]!(value),
  const: (one: unknown, value) => value === one,
  enum: (all: unknown[], value) => all.includes(value),
  pattern: (pattern: string, value) => typeof value !== "string" || new RegExp(pattern, "u").test(value),
  minLength: (least: number, value) => typeof value !== "string" || value.length >= least,
  minimum: (least: number, value) => typeof value !== "number" || value >= least,
  maximum: (most: number, value) => typeof value !== "number" || value <= most,
  minItems: (least: number, value) => !Array.isArray(value) || value.length >= least,
  items: (each: Schema, value) => !Array.isArray(value) || value.every((item) => isValid(each, item)),
  required: (names: string[], value) => !isTable(value) || names.every((name) => Object.hasOwn(value, name)),
  properties: (properties: Record<string, Schema>, value, { additionalProperties }) =>
    !isTable(value) ||
    Object.entries(value).every(([name, each]) =>
      Object.hasOwn(properties, name) ? isValid(properties[name]!, each) : additionalProperties !== false,
    ),
  anyOf: (all: Schema[], value) => all.some((each) => isValid(each, value)),
  oneOf: (all: Schema[], value) => all.filter((each) => isValid(each, value)).length === 1,
};
