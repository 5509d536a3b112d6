/**
 * Delivers what finished while the server was away.
 *
 * The server never attaches to a run again after it restarted: it ends the run as lost. The agent continues, and the daemon keeps its result.
 * Another run of the same task may claim that result. If none has done so for two minutes, it is delivered here with the run's own token: its
 * text as a comment on the task, its cost as a cost event.
 */

import { type Daemon, Refused, type RunInfo } from "./daemon.ts";
import { checkResult, isSuccess } from "./result.ts";
import { type ExecutionResult, type JsonObject, object, text } from "./paperclip.ts";
import type { PaperclipApi } from "./paperclip-api.ts";
import type { PendingRun, PendingRuns } from "./pending.ts";

export interface AwayTiming {
  /** Between two sweeps over the pending runs. */
  intervalMs: number;
  /** How long a retry of the server may claim the result of a lost run. */
  claimMs: number;
}

export const AWAY_TIMING: AwayTiming = { intervalMs: 15_000, claimMs: 120_000 };

/** What became of a pending run. */
type Step = "wait" | "forget" | "taken";

export class Away {
  private readonly pending: PendingRuns;
  private readonly daemon: () => Daemon;
  private readonly paperclip: () => PaperclipApi;
  private readonly timing: AwayTiming;
  /** The runs that `execute` follows at this moment. */
  private readonly active: ReadonlySet<string>;
  /** When each run was first seen lost. */
  private readonly lostSince = new Map<string, number>();
  private timer: NodeJS.Timeout | undefined;
  private isSweeping = false;

  constructor(
    pending: PendingRuns,
    daemon: () => Daemon,
    paperclip: () => PaperclipApi,
    active: ReadonlySet<string>,
    timing: AwayTiming = AWAY_TIMING,
  ) {
    this.pending = pending;
    this.daemon = daemon;
    this.paperclip = paperclip;
    this.active = active;
    this.timing = timing;
  }

  /** Settles the pending runs from now on. It keeps no process alive. */
  start(): void {
    this.timer ??= setInterval(() => void this.sweep(), this.timing.intervalMs).unref();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** Settles each pending run once. Never throws. */
  async sweep(): Promise<void> {
    if (this.isSweeping) return;
    this.isSweeping = true;
    try {
      for (const run of await this.pending.list()) {
        if (this.active.has(run.runId)) continue;
        await this.settle(run);
      }
    } catch {
      // The folder cannot be read now; the next sweep tries again.
    } finally {
      this.isSweeping = false;
    }
  }

  /** Does the next step for a run. Never throws: whatever is not available now is tried at the next sweep. */
  async settle(run: PendingRun): Promise<void> {
    const step = await this.step(run).catch((): Step => "wait");
    if (step === "wait") return;
    try {
      const daemon = this.daemon();
      if (step === "taken" && (await daemon.has("taken"))) await daemon.taken(run.runId);
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404)) return;
    }
    this.lostSince.delete(run.runId);
    await this.pending.remove(run.runId).catch(() => undefined);
  }

  private async step(run: PendingRun): Promise<Step> {
    const daemon = this.daemon();
    if (run.cancel !== undefined) {
      const reason = run.cancel;
      delete run.cancel;
      try {
        await daemon.cancel(run.runId, reason);
      } catch (error) {
        return error instanceof Refused && error.status === 404 ? "forget" : "wait";
      }
      await this.pending.save(run);
    }
    const view = await this.paperclip().view(run);
    if (view === "unavailable" || view === "open") return "wait";
    const info = await daemon.run(run.runId).catch((error: unknown) => {
      if (error instanceof Refused && error.status === 404) return undefined;
      throw error;
    });
    // A run that another one has claimed is that one's matter. One that the daemon does not know was never started, or is retained out.
    if (info === undefined || info.resumedBy !== undefined) return "forget";
    if (info.result === undefined) return "wait";
    // Its token is refused, so nothing can be delivered with it.
    if (view === "stored" || view === "unknown") return "taken";
    const since = this.lostSince.get(run.runId) ?? performance.now();
    this.lostSince.set(run.runId, since);
    if (performance.now() - since < this.timing.claimMs) return "wait";
    return await this.deliver(run, info, info.result);
  }

  private async deliver(run: PendingRun, info: RunInfo, result: JsonObject): Promise<Step> {
    const checked = checkResult(result);
    if (typeof checked === "string") return "taken";
    if (run.issueId !== undefined && run.commented !== true) {
      const mark = `run \`${run.runId}\``;
      if (!(await this.paperclip().comment(run, run.issueId, commentOf(checked, mark), mark))) return "wait";
      run.commented = true;
      await this.pending.save(run);
    }
    const event = costOf(run, info, checked);
    if (event !== undefined && run.costed !== true) {
      if (!(await this.paperclip().cost(run, event))) return "wait";
      run.costed = true;
      await this.pending.save(run);
    }
    return "taken";
  }
}

/** The comment in place of a result. */
function commentOf(result: ExecutionResult, mark: string): string {
  const outcome = isSuccess(result) ? "finished" : "failed";
  const parts = [`**This work ${outcome} while Paperclip's server was away** (${mark}).`];
  if (!isSuccess(result)) parts.push(text(result.errorMessage) ?? "No reason was given.");
  const summary = text(result.summary);
  if (summary !== undefined) parts.push(summary);
  return parts.join("\n\n");
}

/** The cost event of a run, or nothing if the result has no cost and no usage. */
function costOf(run: PendingRun, info: RunInfo, result: ExecutionResult): JsonObject | undefined {
  const usage = object(result.usage);
  const count = (name: string): number => {
    const value = usage[name];
    return typeof value === "number" && value >= 0 ? Math.trunc(value) : 0;
  };
  const cost = typeof result.costUsd === "number" ? result.costUsd : 0;
  const [input, output] = [count("inputTokens"), count("outputTokens")];
  if (cost === 0 && input === 0 && output === 0) return undefined;
  return {
    agentId: run.agentId,
    issueId: run.issueId ?? null,
    heartbeatRunId: run.runId,
    provider: text(result.provider) ?? "unknown",
    biller: text(result.biller) ?? text(result.provider) ?? "unknown",
    billingType: result.billingType === "api" ? "metered_api" : (text(result.billingType) ?? "unknown"),
    model: text(result.model) ?? "unknown",
    inputTokens: input,
    cachedInputTokens: count("cachedInputTokens"),
    outputTokens: output,
    costCents: Math.round(cost * 100),
    occurredAt: info.endedAt === undefined ? new Date().toISOString() : new Date(info.endedAt).toISOString(),
  };
}
