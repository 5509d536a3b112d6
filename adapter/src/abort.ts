/** Why the server aborts a run. */

/** `cancel`: the agent has to stop. `detach`: only this process stops watching; the agent continues. */
export type Abort = { kind: "cancel" | "detach"; reason: string };

/** The server process gives up its runs: it was asked to stop, or cannot reach its database. */
const DETACHES = /legacy controller lease lost/i;

/** Reads the reason of an aborted signal. */
export function readAbort(signal: AbortSignal): Abort {
  const { reason } = signal as { reason: unknown };
  const text = reason instanceof Error ? reason.message : String(reason);
  return { kind: DETACHES.test(text) ? "detach" : "cancel", reason: text };
}
