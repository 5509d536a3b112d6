/** A run as the server passes it, with callbacks that record. */

import { type Definition } from "../src/definition.ts";
import { EXECUTE_TIMING, type ExecuteTiming, type Services } from "../src/execute.ts";
import type { ExecutionContext, JsonObject, RuntimeEvent } from "../src/paperclip.ts";
import { PaperclipApi } from "../src/paperclip-api.ts";
import { PendingRuns } from "../src/pending.ts";
import type { ScriptedDaemon } from "./scripted-daemon.ts";

export const DEFINITION: Definition = {
  type: "claude_k8s",
  hostType: "claude_k8s",
  isRenderedByServer: false,
  ignoredFields: [],
  packageName: "test",
  version: "0.0.0",
  description: { configSchema: { fields: [] }, capabilities: {}, models: [], doc: "built in" },
  render: (line) => [`rendered here: ${line}`],
};

/** Short enough for a test, long enough for a loaded machine. */
export const TIMING: ExecuteTiming = {
  ...EXECUTE_TIMING,
  startMs: 5_000,
  firstPauseMs: 5,
  lastPauseMs: 20,
  unknownRunMs: 100,
  cancelMs: 5_000,
  quietMs: 5_000,
  storedPausesMs: [1, 1, 1],
  callbackPausesMs: [1],
};

export const SUCCESS: JsonObject = { exitCode: 0, signal: null, timedOut: false, summary: "done", resultJson: {} };

export interface Recorded {
  log: string[];
  stdout(): string;
  events: RuntimeEvent[];
  meta: JsonObject[];
  progress: string[];
  dispatched: number;
  ready: number;
}

export function services(daemon: ScriptedDaemon, timing: Partial<ExecuteTiming> = {}, definition = DEFINITION): Services {
  const client = daemon.client();
  return {
    definition,
    daemon: () => client,
    paperclip: () => new PaperclipApi("http://127.0.0.1:9"),
    pending: () => new PendingRuns(daemon.folder, definition.type),
    active: new Set(),
    timing: { ...TIMING, ...timing },
  };
}

export function run(extra: Partial<ExecutionContext> = {}): { context: ExecutionContext; recorded: Recorded; abort: AbortController } {
  const chunks: { stream: string; chunk: string }[] = [];
  const recorded: Recorded = {
    log: [],
    stdout: () => chunks.filter(({ stream }) => stream === "stdout").map(({ chunk }) => chunk).join(""),
    events: [],
    meta: [],
    progress: [],
    dispatched: 0,
    ready: 0,
  };
  const abort = new AbortController();
  const context: ExecutionContext = {
    runId: "run-1",
    agent: { id: "agent-1", companyId: "company-1", name: "Nova", adapterType: "claude_k8s", adapterConfig: {} },
    runtime: { sessionId: null, sessionParams: null, taskKey: "issue-1" },
    config: { env: {} },
    context: { issueId: "issue-1", wakeReason: "issue_assigned" },
    authToken: "the-token-of-the-run",
    signal: abort.signal,
    onCancellationReady: () => {
      recorded.ready += 1;
      return Promise.resolve();
    },
    onDispatch: () => {
      recorded.dispatched += 1;
    },
    onLog: (stream, chunk) => {
      chunks.push({ stream, chunk });
      recorded.log.push(`${stream}: ${chunk}`);
      return Promise.resolve();
    },
    onMeta: (meta) => {
      recorded.meta.push(meta);
      return Promise.resolve();
    },
    onEvent: (event) => {
      recorded.events.push(event);
      return Promise.resolve();
    },
    onRuntimeProgress: (progress) => {
      recorded.progress.push(progress.message);
    },
    ...extra,
  };
  return { context, recorded, abort };
}

export function log(seq: number, text: string, rendered?: string[]): JsonObject {
  return { seq, type: "log", stream: "stdout", index: seq, text, ...(rendered && { rendered }) };
}

export function result(seq: number, value: JsonObject = SUCCESS): JsonObject {
  return { seq, type: "result", ...value };
}

/** Waits until something holds. */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
