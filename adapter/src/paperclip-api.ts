/** The calls of Paperclip's API that this package makes with a run's own token. */

import { isObject, type JsonObject, object, text } from "./paperclip.ts";
import type { PendingRun } from "./pending.ts";

/** How the server judges a run. `lost`: it ended the run without having its result. */
export type ServerView = "open" | "stored" | "lost" | "unknown" | "unavailable";

const ANSWER_MS = 10_000;
/** Error codes of runs that the server ended because it restarted. */
const LOST_CODES = new Set(["process_lost", "server_shutdown_interrupted", "controller_lease_lost"]);

export class PaperclipApi {
  private readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  /** Asks what the server knows of a run. */
  async view(run: PendingRun): Promise<ServerView> {
    const answer = await this.call(run, "GET", `heartbeat-runs/${encodeURIComponent(run.runId)}`);
    if (answer === undefined || answer.status >= 500 || answer.status === 429) return "unavailable";
    if (answer.status !== 200) return "unknown";
    const state = object(answer.body);
    const code = text(state.errorCode) ?? "";
    switch (state.status) {
      case "queued":
      case "running":
      case "scheduled_retry":
        return "open";
      case "interrupted":
        return "lost";
      default:
        return LOST_CODES.has(code) ? "lost" : "stored";
    }
  }

  /** Writes a comment on the run's task, unless one that contains `mark` exists. Returns whether the comment exists now. */
  async comment(run: PendingRun, issueId: string, body: string, mark: string): Promise<boolean> {
    const path = `issues/${encodeURIComponent(issueId)}/comments`;
    const existing = await this.call(run, "GET", path);
    if (existing?.status !== 200) return false;
    const list = Array.isArray(existing.body) ? existing.body : object(existing.body).comments;
    const comments = Array.isArray(list) ? list.filter(isObject) : [];
    if (comments.some((comment) => typeof comment.body === "string" && comment.body.includes(mark))) return true;
    const answer = await this.call(run, "POST", path, { body });
    return answer !== undefined && answer.status >= 200 && answer.status < 300;
  }

  /** Reports what a run has cost. Returns whether the server has recorded it. */
  async cost(run: PendingRun, event: JsonObject): Promise<boolean> {
    const answer = await this.call(run, "POST", `companies/${encodeURIComponent(run.companyId)}/cost-events`, event);
    return answer?.status === 201;
  }

  private async call(
    run: PendingRun,
    method: string,
    path: string,
    body?: JsonObject,
  ): Promise<{ status: number; body: unknown } | undefined> {
    try {
      const response = await fetch(`${this.url}/api/${path}`, {
        method,
        headers: {
          authorization: `Bearer ${run.token}`,
          "x-paperclip-run-id": run.runId,
          ...(body && { "content-type": "application/json" }),
        },
        ...(body && { body: JSON.stringify(body) }),
        redirect: "error",
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      const answer = await response.text();
      return { status: response.status, body: answer === "" ? {} : (JSON.parse(answer) as unknown) };
    } catch {
      return undefined;
    }
  }
}
