/** The API of `paperclip-host serve`, as far as this package calls it. */

import { Diagnostic, messageOf } from "./diagnostic.ts";
import { type Call, readBody, send, Unreachable } from "./http.ts";
import { Lines } from "./lines.ts";
import { isObject, type JsonObject, object, text } from "./paperclip.ts";
import { type Settings, showAddress } from "./settings.ts";

/** The version of the API that this package speaks. */
export const API_MAJOR = 1;

/** What a daemon can do beyond the first version of its API. */
export type Feature = "cursor" | "files" | "mcp_servers" | "resumes" | "taken" | "text" | "skills" | "push_cancel" | "quota";

export interface Version {
  api: string;
  host: string;
  features: ReadonlySet<string>;
}

/** An answer that is not a success. */
export class Refused extends Diagnostic {
  readonly status: number;
  readonly retryAfterMs: number | undefined;

  constructor(status: number, code: string, message: string, hint: string, retryAfterMs?: number) {
    super(code, message, hint);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }

  /** Whether the same request may succeed later. */
  isTransient(): boolean {
    return [408, 429, 502, 503, 504].includes(this.status);
  }
}

/** The two sides speak different versions of the API. */
export class Incompatible extends Diagnostic {}

export interface LogRecord {
  seq: number;
  type: "log";
  stream: "stdout" | "stderr";
  text: string;
  /** The line as a person reads it, if the daemon rendered it. */
  rendered?: string[];
}

/** A record may have a cursor: the place after it, also at another host that has adopted the run. */
export type StreamRecord = { cursor?: string } & (
  | LogRecord
  | { seq: number; type: "gap"; reason: string; lostLines: number | null; lostBytes: number | null }
  | { seq: number; type: "status"; level: "info" | "warning" | "error"; text: string }
  | { seq: number; type: "meta"; meta: JsonObject }
  /** All records follow from the start: the host does not know the place of the cursor. */
  | { seq: number; type: "reset"; reason: string }
  | { seq: number; type: "result"; result: JsonObject }
);

export interface RunInfo {
  runId: string;
  state: string;
  nextSeq: number;
  result?: JsonObject;
  resumedBy?: string;
  endedAt?: string;
}

/** The answer to a request may take this long: the daemon answers from memory or disk. */
const ANSWER_MS = 10_000;
/** An environment test asks the cluster. */
const TEST_MS = 60_000;
/** A line of the agent has up to 16 MiB, and may be twice as long when it is escaped. */
const MAX_LINE_BYTES = 64 << 20;

export class Daemon {
  readonly settings: Settings;
  private known: Version | undefined;

  constructor(settings: Settings) {
    this.settings = settings;
  }

  /**
   * Asks for the daemon's version, or returns the one that is known. A daemon older than this request has no further features.
   *
   * @throws Incompatible if the daemon speaks another version of the API.
   */
  async version(signal?: AbortSignal): Promise<Version> {
    if (this.known !== undefined) return this.known;
    let answer: JsonObject = {};
    try {
      answer = await this.call({ method: "GET", path: "v1/version", signal, timeoutMs: ANSWER_MS });
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404)) throw error;
    }
    const api = typeof answer.api === "number" ? String(answer.api) : (text(answer.api) ?? "1");
    const host = text(answer.host) ?? "older than 0.2";
    if (Number.parseInt(api, 10) !== API_MAJOR) {
      throw new Incompatible(
        "k8s_host_incompatible",
        `paperclip-host ${host} at ${showAddress(this.settings.address)} speaks version ${api} of its API, this adapter version ${API_MAJOR}`,
        "install the adapter package and the host of the same release",
      );
    }
    const features = Array.isArray(answer.features) ? answer.features.filter((name) => typeof name === "string") : [];
    this.known = { api, host, features: new Set(features) };
    return this.known;
  }

  /** Forgets the daemon's version, because another process may answer from now on. */
  forgetVersion(): void {
    this.known = undefined;
  }

  async has(feature: Feature, signal?: AbortSignal): Promise<boolean> {
    return (await this.version(signal)).features.has(feature);
  }

  async describe(type: string, timeoutMs: number): Promise<JsonObject> {
    return await this.call({ method: "GET", path: `v1/adapters/${encodeURIComponent(type)}`, timeoutMs });
  }

  async check(type: string, config: JsonObject): Promise<JsonObject> {
    const path = `v1/adapters/${encodeURIComponent(type)}/check`;
    const { paperclipPod } = this.settings;
    const body = { config, ...(paperclipPod !== undefined && { paperclipPod }) };
    return await this.call({ method: "POST", path, body, timeoutMs: TEST_MS });
  }

  async skills(type: string, body: JsonObject): Promise<JsonObject> {
    const path = `v1/adapters/${encodeURIComponent(type)}/skills`;
    return await this.call({ method: "POST", path, body, timeoutMs: ANSWER_MS });
  }

  async quota(type: string): Promise<JsonObject> {
    return await this.call({ method: "GET", path: `v1/adapters/${encodeURIComponent(type)}/quota`, timeoutMs: ANSWER_MS });
  }

  async start(body: JsonObject, signal?: AbortSignal): Promise<void> {
    await this.call({ method: "POST", path: "v1/runs", body, signal, timeoutMs: TEST_MS });
  }

  async run(id: string, signal?: AbortSignal): Promise<RunInfo> {
    const run = await this.call({ method: "GET", path: runPath(id), signal, timeoutMs: ANSWER_MS });
    const info: RunInfo = {
      runId: text(run.runId) ?? id,
      state: text(run.state) ?? "unknown",
      nextSeq: typeof run.nextSeq === "number" ? run.nextSeq : 0,
    };
    const [resumedBy, endedAt] = [text(run.resumedBy), text(run.endedAt)];
    if (isObject(run.result)) info.result = run.result;
    if (resumedBy !== undefined) info.resumedBy = resumedBy;
    if (endedAt !== undefined) info.endedAt = endedAt;
    return info;
  }

  async cancel(id: string, reason: string, signal?: AbortSignal): Promise<void> {
    const path = `${runPath(id)}/cancel`;
    await this.call({ method: "POST", path, body: { reason }, signal, timeoutMs: ANSWER_MS + 2_000 });
  }

  /** Says that the result of a run has arrived where it belongs. */
  async taken(id: string): Promise<void> {
    await this.call({ method: "POST", path: `${runPath(id)}/taken`, timeoutMs: ANSWER_MS });
  }

  /**
   * Follows the records of a run from a number on, or after the one with a cursor. Each item holds the records that arrived together. The
   * stream ends with the result, or earlier if the daemon stops.
   */
  async *events(id: string, from: number | string, isTextNeeded: boolean, signal: AbortSignal): AsyncGenerator<StreamRecord[]> {
    const place = typeof from === "number" ? `from=${from}` : `cursor=${encodeURIComponent(from)}`;
    const path = `${runPath(id)}/events?${place}${isTextNeeded ? "&text=true" : ""}`;
    const response = await send(this.settings, { method: "GET", path, signal, timeoutMs: ANSWER_MS });
    if (response.statusCode !== 200) throw await this.refusal(response);
    const lines = new Lines(MAX_LINE_BYTES);
    const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    try {
      for (;;) {
        const chunk = await chunks.next().catch((error: unknown) => {
          signal.throwIfAborted();
          throw new Unreachable(this.settings, messageOf(error));
        });
        if (chunk.done === true) return;
        const records = lines.push(chunk.value).flatMap((line) => parseRecord(line));
        if (records.length > 0) yield records;
      }
    } finally {
      response.destroy();
    }
  }

  private async call(call: Call): Promise<JsonObject> {
    const response = await send(this.settings, call);
    const status = response.statusCode ?? 0;
    if (status < 200 || status > 299) throw await this.refusal(response);
    const body = await readBody(response, this.settings);
    if (body.trim() === "") return {};
    try {
      return object(JSON.parse(body));
    } catch {
      throw new Refused(
        status,
        "bad_answer",
        `what answers at ${showAddress(this.settings.address)} is not paperclip-host: /${call.path} is not JSON`,
        "check PAPERCLIP_HOST_URL",
      );
    }
  }

  private tokenHint(): string {
    const { tokenFile } = this.settings;
    return tokenFile === undefined
      ? "set PAPERCLIP_HOST_TOKEN_FILE in the environment of Paperclip's server to a file with the daemon's token, or PAPERCLIP_HOST_URL to its Unix socket"
      : `write the daemon's token into ${tokenFile}, which PAPERCLIP_HOST_TOKEN_FILE names in the environment of Paperclip's server`;
  }

  private async refusal(response: Parameters<typeof readBody>[0]): Promise<Refused> {
    const status = response.statusCode ?? 0;
    const body = await readBody(response, this.settings);
    let error: JsonObject = {};
    try {
      error = object(object(JSON.parse(body)).error);
    } catch {
      // A proxy answered; its page helps nobody.
    }
    const seconds = Number(response.headers["retry-after"]);
    return new Refused(
      status,
      text(error.code) ?? `http_${status}`,
      text(error.message) ?? `paperclip-host at ${showAddress(this.settings.address)} answered ${status}`,
      (status === 401 ? this.tokenHint() : text(error.hint)) ?? "look into the log of paperclip-host, and of any proxy before it",
      Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined,
    );
  }
}

function runPath(id: string): string {
  return `v1/runs/${encodeURIComponent(id)}`;
}

/** Reads a record. One of a type that this package does not know is passed over. */
function parseRecord(line: string): StreamRecord[] {
  const record = object(JSON.parse(line));
  const cursor = text(record.cursor);
  return parseType(record).map((parsed) => (cursor === undefined ? parsed : { ...parsed, cursor }));
}

function parseType(record: JsonObject): StreamRecord[] {
  const { seq, type } = record;
  if (typeof seq !== "number") return [];
  const count = (value: unknown): number | null => (typeof value === "number" ? value : null);
  switch (type) {
    case "log": {
      const log: LogRecord = { seq, type, stream: record.stream === "stderr" ? "stderr" : "stdout", text: String(record.text) };
      if (Array.isArray(record.rendered)) log.rendered = record.rendered.map(String);
      return [log];
    }
    case "gap":
      return [{ seq, type, reason: String(record.reason), lostLines: count(record.lostLines), lostBytes: count(record.lostBytes) }];
    case "status": {
      const level = record.level === "warning" || record.level === "error" ? record.level : "info";
      return [{ seq, type, level, text: String(record.text) }];
    }
    case "meta":
      return [{ seq, type, meta: without(record, ["seq", "type", "cursor"]) }];
    case "reset":
      return [{ seq, type, reason: String(record.reason) }];
    case "result":
      return [{ seq, type, result: without(record, ["seq", "type", "cursor"]) }];
    default:
      return [];
  }
}

function without(record: JsonObject, names: string[]): JsonObject {
  return Object.fromEntries(Object.entries(record).filter(([name]) => !names.includes(name)));
}
