/** Passes a run's records to the server's callbacks, in their order. */

import type { Definition } from "./definition.ts";
import type { LogRecord, StreamRecord } from "./daemon.ts";
import { messageOf } from "./diagnostic.ts";
import { type ExecutionContext, object, type OutputStream } from "./paperclip.ts";
import { pieces } from "./pieces.ts";

export type LogFormat = "raw" | "text";

/** Pauses before a callback that failed is called again: the server's database may be away for a moment. */
export const CALLBACK_PAUSES_MS = [200, 1_000, 5_000, 20_000];

/** Returns the format in which a run's output is shown. */
export function logFormat(configured: unknown, definition: Definition): LogFormat {
  if (configured === "raw" || configured === "text") return configured;
  return definition.isRenderedByServer ? "raw" : "text";
}

export class Output {
  private readonly context: ExecutionContext;
  private readonly definition: Definition;
  private readonly format: LogFormat;
  private readonly pauses: readonly number[];
  /** Lines that no callback took. */
  private lost = 0;

  constructor(context: ExecutionContext, definition: Definition, format: LogFormat, pauses: readonly number[] = CALLBACK_PAUSES_MS) {
    this.context = context;
    this.definition = definition;
    this.format = format;
    this.pauses = pauses;
  }

  /** Whether lines are shown as text, not as the agent prints them. */
  get showsText(): boolean {
    return this.format === "text";
  }

  /** Delivers records that arrived together. Never throws: an agent must not fail because its output cannot be shown. */
  async deliver(records: readonly StreamRecord[]): Promise<void> {
    let stream: OutputStream = "stdout";
    let lines: string[] = [];
    const flush = async (): Promise<void> => {
      const pending = lines;
      lines = [];
      await this.write(stream, pending);
    };
    for (const record of records) {
      if (record.type !== "log") {
        await flush();
        await this.one(record);
        continue;
      }
      if (record.stream !== stream) await flush();
      stream = record.stream;
      lines.push(...this.show(record));
    }
    await flush();
  }

  /** Shows a line about the run itself. */
  async status(message: string, phase = "kubernetes"): Promise<void> {
    await this.attempt(async () => {
      await this.context.onRuntimeProgress?.({ phase, message });
    });
    await this.write("system", [message]);
  }

  private show(record: LogRecord): string[] {
    if (this.format === "raw" || record.stream === "stderr") return [record.text];
    return record.rendered ?? this.definition.render(record.text);
  }

  private async one(record: Exclude<StreamRecord, LogRecord>): Promise<void> {
    switch (record.type) {
      case "status":
        await this.status(record.level === "info" ? record.text : `${record.level === "warning" ? "Warning" : "Error"}: ${record.text}`);
        if (record.level !== "info") {
          await this.event("kubernetes.status", record.level === "warning" ? "warn" : "error", record.text, {});
        }
        break;
      case "gap": {
        const lines = record.lostLines === null ? "Output" : `${record.lostLines} lines of output`;
        const message = `${lines} could not be read: ${record.reason}`;
        await this.write("system", [message]);
        await this.event("kubernetes.log_gap", "warn", message, { lostLines: record.lostLines, lostBytes: record.lostBytes });
        break;
      }
      case "reset": {
        const message = `The output follows again from its start: ${record.reason}`;
        await this.write("system", [message]);
        await this.event("kubernetes.log_reset", "warn", message, {});
        break;
      }
      case "meta":
        await this.attempt(async () => {
          const meta = { command: this.definition.hostType, ...object(record.meta), adapterType: this.definition.type };
          await this.context.onMeta?.(meta);
        });
        break;
      case "result":
        break;
    }
  }

  private async event(eventType: string, level: "warn" | "error", message: string, payload: Record<string, unknown>): Promise<void> {
    await this.attempt(async () => {
      await this.context.onEvent?.({ eventType, stream: "system", level, message, payload });
    });
  }

  private async write(stream: OutputStream, lines: readonly string[]): Promise<void> {
    for (const piece of pieces(lines)) {
      const failed = await this.attempt(() => this.context.onLog(stream, piece));
      if (failed === undefined) continue;
      this.lost += 1;
      await this.event("kubernetes.log_gap", "warn", `Paperclip did not take a piece of output (${this.lost} so far): ${failed}`, {});
    }
  }

  /** Calls back, again after a pause if it fails. Returns why it failed for good. */
  private async attempt(call: () => Promise<unknown>): Promise<string | undefined> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await call();
        return undefined;
      } catch (error) {
        const pause = this.pauses[attempt];
        if (pause === undefined) return messageOf(error);
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }
}
