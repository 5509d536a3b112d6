/** Errors that a person reads: a code, what is wrong, and what to do about it. */

export class Diagnostic extends Error {
  readonly code: string;
  readonly hint: string;

  constructor(code: string, message: string, hint: string) {
    super(message);
    this.code = code;
    this.hint = hint;
  }

  /** Returns message and hint as one text, for places that have a single field. */
  line(): string {
    return `${this.message}. To fix: ${this.hint}`;
  }
}

/** Returns what an error says, whatever was thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof Diagnostic) return error.line();
  return error instanceof Error ? error.message : String(error);
}

/** Returns the code of an error of the operating system, such as `ECONNREFUSED`. */
export function systemCode(error: unknown): string | undefined {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : undefined;
}
