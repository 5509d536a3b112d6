/** Executes one run: starts it on the daemon, follows it, and returns its result. */

import { type Abort, readAbort } from "./abort.ts";
import { type Daemon, Incompatible, Refused, type StreamRecord } from "./daemon.ts";
import type { Definition } from "./definition.ts";
import { Diagnostic, messageOf } from "./diagnostic.ts";
import { Unreachable } from "./http.ts";
import { CALLBACK_PAUSES_MS, logFormat, Output } from "./output.ts";
import { type ExecutionContext, type ExecutionResult, type JsonObject, object, text } from "./paperclip.ts";
import type { PaperclipApi } from "./paperclip-api.ts";
import type { PendingRun, PendingRuns } from "./pending.ts";
import { checkTarget, prepare } from "./request.ts";
import { cancelled, cancelledBeforeStart, checkResult, failure } from "./result.ts";

export interface ExecuteTiming {
  /** How long to try to start a run while the daemon is away or full. */
  startMs: number;
  /** Pauses between attempts, doubled from the first to the second. */
  firstPauseMs: number;
  lastPauseMs: number;
  /** How long a run that was accepted can be unknown to the daemon. */
  unknownRunMs: number;
  /** How long a cancel may take. After 60 s the server answers its caller with an error. */
  cancelMs: number;
  /** Without output for this long, the daemon is asked whether there is any. */
  quietMs: number;
  /** Pauses before the server is asked whether it has stored a result. */
  storedPausesMs: readonly number[];
  callbackPausesMs: readonly number[];
}

export const EXECUTE_TIMING: ExecuteTiming = {
  startMs: 120_000,
  firstPauseMs: 250,
  lastPauseMs: 5_000,
  unknownRunMs: 60_000,
  cancelMs: 45_000,
  quietMs: 60_000,
  storedPausesMs: [1_000, 2_000, 5_000, 10_000],
  callbackPausesMs: CALLBACK_PAUSES_MS,
};

export interface Services {
  definition: Definition;
  daemon: () => Daemon;
  paperclip: () => PaperclipApi;
  pending: () => PendingRuns;
  /** The runs that are followed in this process. */
  active: Set<string>;
  timing: ExecuteTiming;
}

/** Executes a run. Never throws: every failure is a result with its cause and a hint. */
export async function execute(context: ExecutionContext, services: Services): Promise<ExecutionResult> {
  services.active.add(context.runId);
  const run = new RunExecution(context, services);
  try {
    await context.onCancellationReady?.();
    return await run.execute();
  } catch (error) {
    if (error instanceof Diagnostic) return failure(error, run.isRequested ? "unknown" : "nothing_started");
    const unexpected = new Diagnostic("k8s_adapter_failed", `the adapter failed: ${messageOf(error)}`, "report it with the server's log");
    return failure(unexpected, run.isRequested ? "unknown" : "nothing_started");
  } finally {
    run.close();
    services.active.delete(context.runId);
  }
}

class RunExecution {
  /** Whether the daemon may have accepted the run. */
  isRequested = false;
  private readonly context: ExecutionContext;
  private readonly services: Services;
  private readonly timing: ExecuteTiming;
  private readonly output: Output;
  private readonly pending: PendingRun | undefined;
  /** Ends waiting and following: the server aborts, or a cancel takes too long. */
  private readonly stop = new AbortController();
  private abort: Abort | undefined;
  private onAbort: (() => void) | undefined;
  /** The number of the next record; numbers start again where another host adopts the run. */
  private nextSeq = 0;
  /** The place after the last record, if the daemon names places. */
  private cursor: string | undefined;
  /** The request that started the run. */
  private body: JsonObject | undefined;
  /** Whether the agent has printed something. */
  private hasOutput = false;
  private result: ExecutionResult | undefined;
  private isClosed = false;

  constructor(context: ExecutionContext, services: Services) {
    this.context = context;
    this.services = services;
    this.timing = services.timing;
    const format = logFormat(context.config.logFormat, services.definition);
    this.output = new Output(context, services.definition, format, services.timing.callbackPausesMs);
    this.pending = pendingRun(context);
  }

  async execute(): Promise<ExecutionResult> {
    const { signal } = this.context;
    if (signal?.aborted === true) return this.neverStarted(readAbort(signal));
    checkTarget(this.context);
    const daemon = this.services.daemon();
    this.onAbort = () => {
      if (signal !== undefined) this.aborted(readAbort(signal), daemon);
    };
    signal?.addEventListener("abort", this.onAbort, { once: true });
    const refused = await this.start(daemon);
    if (refused !== undefined) return refused;
    const result = await this.follow(daemon);
    if (this.abort?.kind !== "detach" && result !== undefined) {
      void this.confirmStored(daemon);
      return result;
    }
    return this.unfinished();
  }

  close(): void {
    this.isClosed = true;
    if (this.onAbort !== undefined) this.context.signal?.removeEventListener("abort", this.onAbort);
  }

  private neverStarted(abort: Abort): ExecutionResult {
    return abort.kind === "cancel" ? cancelledBeforeStart(new Date()) : cancelled("Paperclip's server stopped before the run was started");
  }

  /** Starts the run. Returns a result if it was not started. */
  private async start(daemon: Daemon): Promise<ExecutionResult | undefined> {
    const deadline = performance.now() + this.timing.startMs;
    let pause = this.timing.firstPauseMs;
    let isAnnounced = false;
    for (;;) {
      try {
        const resumed = await this.claimable();
        const { body, warnings } = await prepare(this.context, this.services.definition, daemon, resumed?.runId);
        this.stop.signal.throwIfAborted();
        if (!this.isRequested) {
          for (const warning of warnings) await this.output.status(`Warning: ${warning}`);
          if (this.pending !== undefined) await this.keep(this.pending);
          this.context.onDispatch?.();
        }
        this.isRequested = true;
        await daemon.start(body, this.stop.signal);
        this.body = body;
        if (resumed !== undefined && body.resumes === resumed.runId) await this.services.pending().remove(resumed.runId);
        return undefined;
      } catch (error) {
        if (this.abort !== undefined) return await this.abortedWhileStarting(daemon, this.abort);
        const retryAfterMs = error instanceof Refused && error.isTransient() ? (error.retryAfterMs ?? 0) : undefined;
        const canRetry = error instanceof Unreachable || retryAfterMs !== undefined;
        const wait = Math.max(pause, retryAfterMs ?? 0);
        if (!canRetry || performance.now() + wait > deadline) return await this.notStarted(error);
        if (!isAnnounced) await this.output.status(`Waiting for paperclip-host: ${messageOf(error)}`);
        isAnnounced = true;
        daemon.forgetVersion();
        await this.sleep(wait);
        pause = Math.min(pause * 2, this.timing.lastPauseMs);
      }
    }
  }

  /** The result of a run that the daemon has not accepted. */
  private async notStarted(error: unknown): Promise<ExecutionResult> {
    // An accepted run whose answer was lost is still found by its file, and its result delivered.
    const isUncertain = this.isRequested && error instanceof Unreachable;
    if (!isUncertain) await this.services.pending().remove(this.context.runId);
    if (error instanceof Incompatible) return failure(error, "nothing_started_retry_helps");
    if (error instanceof Unreachable) return failure(error, "nothing_started_retry_helps");
    if (error instanceof Refused) return failure(error, error.isTransient() ? "nothing_started_retry_helps" : "nothing_started");
    throw error;
  }

  private async abortedWhileStarting(daemon: Daemon, abort: Abort): Promise<ExecutionResult> {
    if (!this.isRequested) return this.neverStarted(abort);
    if (abort.kind === "detach") return this.unfinished();
    // The daemon may have accepted the run.
    const isUnknown = await daemon.cancel(this.context.runId, abort.reason).then(
      () => false,
      (error: unknown) => error instanceof Refused && error.status === 404,
    );
    if (!isUnknown) return this.unfinished();
    await this.services.pending().remove(this.context.runId);
    return cancelledBeforeStart(new Date());
  }

  /** Follows the run to its result. Returns nothing if following was stopped before. */
  private async follow(daemon: Daemon): Promise<ExecutionResult | undefined> {
    let pause = this.timing.firstPauseMs;
    let unknownSince: number | undefined;
    let isAnnounced = false;
    let isInterrupted = false;
    while (!this.isStopped()) {
      try {
        if (isInterrupted) await this.repeatStart(daemon);
        isInterrupted = false;
        const isTextNeeded = this.output.showsText && (await daemon.has("text", this.stop.signal));
        const isPlaceKnown = this.cursor !== undefined && (await daemon.has("cursor", this.stop.signal));
        const from = isPlaceKnown ? this.cursor : undefined;
        let isFirst = true;
        for await (const records of this.records(daemon, from ?? this.nextSeq, isTextNeeded)) {
          if (isAnnounced) await this.output.status("paperclip-host answers again");
          isAnnounced = false;
          pause = this.timing.firstPauseMs;
          unknownSince = undefined;
          // What follows a cursor is new, whatever its numbers.
          if (isFirst && from !== undefined) this.nextSeq = records[0]?.seq ?? this.nextSeq;
          isFirst = false;
          const result = await this.deliver(records);
          if (result !== undefined) return result;
        }
      } catch (error) {
        if (this.isStopped()) return undefined;
        if (error instanceof Refused && error.status === 404) {
          unknownSince ??= performance.now();
          if (performance.now() - unknownSince > this.timing.unknownRunMs) {
            throw new Diagnostic(
              "k8s_run_lost",
              `paperclip-host no longer knows run ${this.context.runId}`,
              "check that its state folder is on a volume that lasts, and start the task again",
            );
          }
        } else if (error instanceof Incompatible) {
          throw error;
        }
        if (!isAnnounced) await this.output.status(`Reconnecting to paperclip-host; the agent continues: ${messageOf(error)}`);
        isAnnounced = true;
      }
      // The daemon that answers next may be another one.
      isInterrupted = true;
      daemon.forgetVersion();
      await this.sleep(pause);
      pause = Math.min(pause * 2, this.timing.lastPauseMs);
    }
    return undefined;
  }

  /**
   * Sends the request again to a daemon that has restarted: a run that waited for its turn is not on its disk, and the secrets of one whose
   * Job does not exist yet are lost. It is the same run to a daemon that knows it. Never after output: the agent's work must not be repeated.
   */
  private async repeatStart(daemon: Daemon): Promise<void> {
    if (this.hasOutput || this.body === undefined || this.abort !== undefined) return;
    try {
      await daemon.start(this.body, this.stop.signal);
    } catch (error) {
      // What the daemon knows of the run counts.
      if (!(error instanceof Refused)) throw error;
    }
  }

  /** The records from the next one on. Ends early if the daemon has records that do not arrive: the connection is dead. */
  private async *records(daemon: Daemon, from: number | string, isTextNeeded: boolean): AsyncGenerator<StreamRecord[]> {
    const connection = new AbortController();
    const signal = AbortSignal.any([this.stop.signal, connection.signal]);
    let lastArrival = performance.now();
    const watch = setInterval(() => {
      if (performance.now() - lastArrival < this.timing.quietMs) return;
      const expected = this.nextSeq;
      daemon.run(this.context.runId, signal).then(
        (run) => {
          if (run.nextSeq > expected && this.nextSeq === expected) {
            connection.abort(new Unreachable(daemon.settings, "the connection delivers nothing"));
          }
          lastArrival = performance.now();
        },
        (error: unknown) => {
          connection.abort(error instanceof Error ? error : new Error(messageOf(error)));
        },
      );
    }, this.timing.quietMs / 2);
    try {
      for await (const records of daemon.events(this.context.runId, from, isTextNeeded, signal)) {
        lastArrival = performance.now();
        yield records;
      }
    } finally {
      clearInterval(watch);
    }
  }

  /** Delivers the records that are new. Returns the result if it is among them. */
  private async deliver(records: StreamRecord[]): Promise<ExecutionResult | undefined> {
    if (records.some((record) => record.type === "reset")) this.nextSeq = 0;
    const fresh = records.filter((record) => record.type === "reset" || record.seq >= this.nextSeq);
    const last = fresh.at(-1);
    if (last === undefined) return undefined;
    this.nextSeq = last.type === "reset" ? 0 : last.seq + 1;
    this.cursor = last.cursor;
    this.hasOutput ||= fresh.some((record) => record.type === "log" || record.type === "gap");
    await this.output.deliver(fresh);
    if (last.type !== "result") return undefined;
    const checked = checkResult(last.result);
    if (typeof checked === "string") {
      const error = new Diagnostic(
        "k8s_bad_result",
        `paperclip-host returned a result that is not one: ${checked}`,
        "install the adapter package and the host of the same release",
      );
      return failure(error, "unknown");
    }
    this.result = checked;
    return checked;
  }

  /** The server aborts the run. */
  private aborted(abort: Abort, daemon: Daemon): void {
    this.abort = abort;
    if (abort.kind === "detach" || !this.isRequested) {
      this.stop.abort(new Error(abort.reason));
      return;
    }
    const deadline = setTimeout(() => {
      this.stop.abort(new Error("the cancel took too long"));
    }, this.timing.cancelMs);
    deadline.unref();
    void this.cancel(daemon, abort.reason).finally(() => {
      if (this.isClosed) clearTimeout(deadline);
    });
  }

  /** Requests the cancel until the daemon has accepted it. */
  private async cancel(daemon: Daemon, reason: string): Promise<void> {
    const run = this.pending;
    if (run !== undefined) {
      run.cancel = reason;
      await this.keep(run);
    }
    let pause = this.timing.firstPauseMs;
    while (!this.isClosed) {
      try {
        await daemon.cancel(this.context.runId, reason);
        break;
      } catch (error) {
        if (error instanceof Refused && error.status === 404) break;
        await this.sleep(pause);
        pause = Math.min(pause * 2, this.timing.lastPauseMs);
      }
    }
    if (this.isClosed || run === undefined) return;
    delete run.cancel;
    await this.keep(run);
  }

  /** The result of a run that is no longer followed. Its file stays: what it still does is settled later. */
  private unfinished(): ExecutionResult {
    if (this.abort?.kind === "cancel") {
      return cancelled("Run cancelled, but paperclip-host has not confirmed that the agent has stopped; it keeps trying");
    }
    return cancelled("Paperclip's server stopped following the run; the agent continues on Kubernetes");
  }

  /**
   * The pending run whose work this one continues: the one that the server retries, or an earlier one of the same task. The server must have
   * lost it: a result that the server has stored is not returned again.
   */
  private async claimable(): Promise<PendingRun | undefined> {
    const { agent, runId, context } = this.context;
    const [retried, taskKey] = [text(context.retryOfRunId), taskOf(this.context)];
    const candidates = (await this.services.pending().list()).filter(
      (run) =>
        run.runId !== runId &&
        run.agentId === agent.id &&
        run.cancel === undefined &&
        (run.runId === retried || (taskKey !== undefined && run.taskKey === taskKey)) &&
        !this.services.active.has(run.runId),
    );
    candidates.sort((a, b) => Number(b.runId === retried) - Number(a.runId === retried));
    for (const run of candidates) {
      if ((await this.services.paperclip().view(run)) === "lost") return run;
    }
    return undefined;
  }

  /** Forgets the run as soon as the server has stored its result: until then a crash of the server would lose it. */
  private async confirmStored(daemon: Daemon): Promise<void> {
    for (const pause of this.timing.storedPausesMs) {
      await new Promise((resolve) => setTimeout(resolve, pause).unref());
      if (this.pending !== undefined) {
        const view = await this.services.paperclip().view(this.pending);
        if (view === "open" || view === "unavailable") continue;
        // The server has ended the run without this result: it is delivered as one that finished while the server was away.
        if (view === "lost") return;
      }
      try {
        if (await daemon.has("taken")) await daemon.taken(this.context.runId);
        await this.services.pending().remove(this.context.runId);
        return;
      } catch (error) {
        if (error instanceof Refused && error.status === 404) {
          await this.services.pending().remove(this.context.runId);
          return;
        }
      }
    }
  }

  private async keep(run: PendingRun): Promise<void> {
    try {
      await this.services.pending().save(run);
    } catch (error) {
      await this.output.status(`Warning: the run's result is lost if Paperclip's server restarts: ${messageOf(error)}`);
    }
  }

  private isStopped(): boolean {
    return this.stop.signal.aborted;
  }

  private async sleep(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const { signal } = this.stop;
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
    });
  }
}

function taskOf(context: ExecutionContext): string | undefined {
  return text(context.runtime.taskKey) ?? text(context.context.taskKey) ?? text(context.context.issueId);
}

/** What has to be kept of a run. Without a token nothing could be delivered, so there is nothing to keep. */
function pendingRun(context: ExecutionContext): PendingRun | undefined {
  if (context.authToken === undefined) return undefined;
  const run: PendingRun = {
    runId: context.runId,
    token: context.authToken,
    agentId: context.agent.id,
    companyId: context.agent.companyId,
  };
  const issueId = text(context.context.issueId) ?? text(object(context.context.paperclipIssue).id);
  const taskKey = taskOf(context);
  if (issueId !== undefined) run.issueId = issueId;
  if (taskKey !== undefined) run.taskKey = taskKey;
  return run;
}
