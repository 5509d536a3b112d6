/**
 * The description of an agent type: form, models, doc and capabilities. The daemon's is used; if it does not answer, the last good one, from
 * memory or a file; else the copy that is built into the package. So the server's forms work without a daemon.
 */

import { mkdir, rename, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

import type { Daemon } from "./daemon.ts";
import type { Definition } from "./definition.ts";
import { isObject, type JsonObject, object, text } from "./paperclip.ts";

/** The server asks for the form up to five times a run. */
const FRESH_MS = 30_000;
/** A form must not wait for a daemon that hangs. */
const ANSWER_MS = 2_000;

/** Reads the last description that was kept in a file, or the package's own copy. Never throws: it runs while the package is loaded. */
export function lastKnown(definition: Definition, folder: string | undefined): JsonObject {
  if (folder !== undefined) {
    try {
      const kept = object(JSON.parse(readFileSync(fileOf(folder, definition), "utf8")));
      if (isDescription(kept)) return kept;
    } catch {
      // There is none yet, or it is broken.
    }
  }
  return definition.description;
}

export class Descriptions {
  private readonly definition: Definition;
  private readonly daemon: () => Daemon;
  private last: JsonObject;
  private askedAt = Number.NEGATIVE_INFINITY;
  private pending: Promise<JsonObject> | undefined;

  constructor(definition: Definition, daemon: () => Daemon, last: JsonObject) {
    this.definition = definition;
    this.daemon = daemon;
    this.last = last;
  }

  /** Returns the newest description that can be had. Never throws. */
  async get(isFreshNeeded = false): Promise<JsonObject> {
    if (!isFreshNeeded && performance.now() - this.askedAt < FRESH_MS) return this.last;
    this.pending ??= this.ask().finally(() => {
      this.pending = undefined;
    });
    return await this.pending;
  }

  private async ask(): Promise<JsonObject> {
    try {
      const daemon = this.daemon();
      const answer = await daemon.describe(this.definition.hostType, ANSWER_MS);
      if (isDescription(answer)) {
        const isNew = JSON.stringify(answer) !== JSON.stringify(this.last);
        this.last = answer;
        if (isNew) await keep(daemon.settings.folder, this.definition, answer);
      }
    } catch {
      // The last good description serves; the environment test says what is wrong.
    }
    this.askedAt = performance.now();
    return this.last;
  }
}

/** Returns the form's fields, with those of this package. */
export function configSchema(definition: Definition, description: JsonObject): JsonObject {
  const { fields } = object(description.configSchema);
  const own = {
    key: "logFormat",
    label: "Log format",
    type: "select",
    default: "auto",
    options: [
      { value: "auto", label: "Automatic" },
      { value: "text", label: "Readable text" },
      { value: "raw", label: "The agent's own JSON lines" },
    ],
    hint: "How output is shown in Paperclip. Automatic: JSON lines where the server's UI renders them, else text.",
  };
  const inherited = (Array.isArray(fields) ? fields : []).filter(isObject).filter((field) => field.key !== own.key);
  return { ...object(description.configSchema), fields: [...inherited, own] };
}

/** Returns the models in the server's form. */
export function models(description: JsonObject): { id: string; label: string }[] {
  const listed = Array.isArray(description.models) ? description.models.filter(isObject) : [];
  return listed.flatMap((model) => {
    const id = text(model.id);
    return id === undefined ? [] : [{ id, label: text(model.label) ?? id }];
  });
}

function isDescription(value: JsonObject): boolean {
  return isObject(value.configSchema) && isObject(value.capabilities) && Array.isArray(value.models);
}

async function keep(folder: string, definition: Definition, description: JsonObject): Promise<void> {
  const path = fileOf(folder, definition);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, JSON.stringify(description));
  await rename(temporary, path);
}

function fileOf(folder: string, definition: Definition): string {
  return join(folder, `description-${definition.type}.json`);
}
