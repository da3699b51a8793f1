// Why an operator's change is not made.

/** A change that cannot be made as it was asked for; the text says why. */
export class OperationError extends Error {
  /** `unknown`: it names what is not there. `unavailable`: the fleet's store does not answer. */
  readonly kind: "invalid" | "unknown" | "unavailable";

  constructor(kind: OperationError["kind"], message: string) {
    super(message);
    this.kind = kind;
  }
}
