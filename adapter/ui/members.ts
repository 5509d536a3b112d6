/** Reads members of events, whatever their types are. */

export type Members = Record<string, unknown>;

export function members(value: unknown): Members {
  return typeof value === "object" && value !== null ? (value as Members) : {};
}

export function string(value: unknown): string {
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
}

export function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}
