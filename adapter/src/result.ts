/** Results: the daemon's, checked, and those of runs that did not get as far. */

import type { Diagnostic } from "./diagnostic.ts";
import { type ExecutionResult, isObject, type JsonObject, object } from "./paperclip.ts";

/** With it the server lets a comment start the task again after a failure. Without it the task is held for ever. */
const CONTINUATION = { conversationContinuation: "continue_conversation_v1" } as const;

/**
 * Checks a result of the daemon. The server itself checks nothing: it would take `{}` for a success.
 *
 * @returns The result, or what is wrong with it.
 */
export function checkResult(result: JsonObject): ExecutionResult | string {
  const { exitCode, signal, timedOut } = result;
  if (exitCode !== null && !Number.isInteger(exitCode)) return `exitCode is ${JSON.stringify(exitCode)}`;
  if (signal !== null && signal !== undefined && typeof signal !== "string") return `signal is ${JSON.stringify(signal)}`;
  if (timedOut !== undefined && typeof timedOut !== "boolean") return `timedOut is ${JSON.stringify(timedOut)}`;
  for (const name of ["errorMessage", "errorCode", "errorFamily", "summary"]) {
    const value = result[name];
    if (value !== null && value !== undefined && typeof value !== "string") return `${name} is ${JSON.stringify(value)}`;
  }
  for (const name of ["resultJson", "usage", "sessionParams", "executionRecovery"]) {
    const value = result[name];
    if (value !== null && value !== undefined && !isObject(value)) return `${name} is ${JSON.stringify(value)}`;
  }
  const isFailure = (typeof exitCode === "number" && exitCode !== 0) || typeof signal === "string" || timedOut === true;
  if (isFailure && typeof result.errorMessage !== "string") return "it is a failure without errorMessage";
  return withoutNul({ ...result, signal: signal ?? null, timedOut: timedOut ?? false }) as ExecutionResult;
}

/** Whether the agent's work has not started, and whether trying again can help. */
export type Progress = "nothing_started" | "nothing_started_retry_helps" | "unknown";

/** Returns the result of a run that failed here. */
export function failure(error: Diagnostic, progress: Progress): ExecutionResult {
  const result: ExecutionResult = {
    exitCode: null,
    signal: null,
    timedOut: false,
    errorCode: error.code,
    errorMessage: error.line(),
    resultJson: { ...CONTINUATION },
  };
  if (progress !== "unknown") result.executionRecovery = { kind: "bootstrap", providerWorkStarted: false };
  if (progress === "nothing_started_retry_helps") result.errorFamily = "transient_upstream";
  return result;
}

/** Returns the result of a run that was cancelled before anything was started. */
export function cancelledBeforeStart(now: Date): ExecutionResult {
  return {
    ...cancelled("Run cancelled before it was started"),
    resultJson: { executionCancellation: { state: "acknowledged", acknowledgedAt: now.toISOString() } },
    executionRecovery: { kind: "bootstrap", providerWorkStarted: false },
  };
}

/** Returns the result of a run whose end nobody has seen. That the agent has stopped is not claimed. */
export function cancelled(message: string): ExecutionResult {
  return { exitCode: null, signal: null, timedOut: false, errorCode: "cancelled", errorMessage: message, resultJson: {} };
}

/** Whether the server takes the result for a success. */
export function isSuccess(result: ExecutionResult): boolean {
  const { exitCode, errorMessage, signal } = result;
  return (exitCode === 0 || exitCode === null) && (errorMessage ?? "") === "" && (signal ?? "") === "";
}

/** Removes NUL, with which the server's database refuses the whole result. */
function withoutNul(value: unknown): unknown {
  if (typeof value === "string") return value.includes("\0") ? value.replaceAll("\0", "\u2400") : value;
  if (Array.isArray(value)) return value.map(withoutNul);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(object(value)).map(([name, member]) => [name, withoutNul(member)]));
}
