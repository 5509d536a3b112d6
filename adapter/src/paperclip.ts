/** What Paperclip's server passes to an adapter and expects of it, as far as this package uses it. */

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = Record<string, unknown>;

export interface Agent {
  id: string;
  companyId: string;
  name?: string;
  adapterType?: string | null;
  adapterConfig?: unknown;
}

export interface Progress {
  phase: string;
  message: string;
}

export interface RuntimeEvent {
  eventType: string;
  stream?: "system" | "stdout" | "stderr";
  level?: "info" | "warn" | "error";
  message?: string;
  payload?: JsonObject;
}

export type OutputStream = "stdout" | "stderr" | "system";

export interface McpServer {
  name: string;
  url: string;
  token: string;
  connectionId: string;
}

export interface ExecutionContext {
  runId: string;
  agent: Agent;
  runtime: JsonObject;
  config: JsonObject;
  context: JsonObject;
  executionContinuation?: unknown;
  executionTarget?: unknown;
  runtimeMcp?: { getServers(): McpServer[] };
  runtimeTools?: unknown;
  authToken?: string;
  signal?: AbortSignal;
  onCancellationReady?: () => Promise<void>;
  onDispatch?: () => void;
  onLog(stream: OutputStream, chunk: string): Promise<void>;
  onMeta?: (meta: JsonObject) => Promise<void>;
  onEvent?: (event: RuntimeEvent) => Promise<void>;
  onRuntimeProgress?: (progress: Progress) => unknown;
}

export type ExecutionRecovery =
  | { kind: "bootstrap"; providerWorkStarted: false }
  | { kind: "interrupted"; providerStopped: true; sessionPreserved: true; actionOutcomes: "settled" };

export interface ExecutionResult {
  exitCode: number | null;
  signal: string | null;
  timedOut: boolean;
  errorMessage?: string | null;
  errorCode?: string | null;
  errorFamily?: string | null;
  executionRecovery?: ExecutionRecovery;
  resultJson?: JsonObject | null;
  summary?: string | null;
  [name: string]: unknown;
}

export interface EnvironmentCheck {
  code: string;
  level: "info" | "warn" | "error";
  message: string;
  detail?: string | null;
  hint?: string | null;
}

export interface EnvironmentReport {
  adapterType: string;
  status: "pass" | "warn" | "fail";
  checks: EnvironmentCheck[];
  testedAt: string;
}

export interface SkillEntry {
  key: string;
  runtimeName: string | null;
  desired: boolean;
  managed: boolean;
  state: string;
  sourcePath?: string | null;
  detail?: string | null;
  [name: string]: unknown;
}

export interface SkillSnapshot {
  adapterType: string;
  supported: boolean;
  mode: string;
  desiredSkills: string[];
  entries: SkillEntry[];
  warnings: string[];
}

/** Returns the value as an object, or an empty one. */
export function object(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns the value if it is a text that is not blank, trimmed. */
export function text(value: unknown): string | undefined {
  const trimmed = typeof value === "string" ? value.trim() : "";
  return trimmed === "" ? undefined : trimmed;
}
