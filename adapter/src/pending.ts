/**
 * The runs whose result has not arrived at the server, in files that survive it: no API may return the token of a run, and without the token
 * nobody can deliver its result.
 */

import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import { type JsonObject, object, text } from "./paperclip.ts";

export interface PendingRun {
  runId: string;
  token: string;
  agentId: string;
  companyId: string;
  issueId?: string;
  taskKey?: string;
  /** The daemon has not confirmed that it cancels the run; the reason. */
  cancel?: string;
  /** What of the result was delivered. */
  commented?: boolean;
  costed?: boolean;
}

const RUN_ID = /^[A-Za-z0-9_-]{1,128}$/;

export class PendingRuns {
  private readonly folder: string;

  constructor(folder: string, type: string) {
    this.folder = join(folder, "pending", type);
  }

  /** Keeps a run, readable for this user only. */
  async save(run: PendingRun): Promise<void> {
    if (!RUN_ID.test(run.runId)) throw new Error(`${JSON.stringify(run.runId)} cannot be the name of a file`);
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    const path = this.path(run.runId);
    const temporary = `${path}.${process.pid}.tmp`;
    const file = await open(temporary, "w", 0o600);
    try {
      await file.chmod(0o600);
      await file.writeFile(JSON.stringify(run));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  }

  async remove(runId: string): Promise<void> {
    if (RUN_ID.test(runId)) await rm(this.path(runId), { force: true });
  }

  async get(runId: string): Promise<PendingRun | undefined> {
    if (!RUN_ID.test(runId)) return undefined;
    try {
      return parse(object(JSON.parse(await readFile(this.path(runId), "utf8"))));
    } catch {
      return undefined;
    }
  }

  async list(): Promise<PendingRun[]> {
    const names = await readdir(this.folder).catch(() => []);
    const runs: PendingRun[] = [];
    for (const name of names.sort()) {
      if (!name.endsWith(".json")) continue;
      const run = await this.get(name.slice(0, -".json".length));
      if (run !== undefined) runs.push(run);
    }
    return runs;
  }

  private path(runId: string): string {
    return join(this.folder, `${runId}.json`);
  }
}

function parse(stored: JsonObject): PendingRun | undefined {
  const [runId, token, agentId, companyId] = ["runId", "token", "agentId", "companyId"].map((name) => text(stored[name]));
  if (runId === undefined || token === undefined || agentId === undefined || companyId === undefined) return undefined;
  const run: PendingRun = { runId, token, agentId, companyId };
  for (const name of ["issueId", "taskKey", "cancel"] as const) {
    const value = text(stored[name]);
    if (value !== undefined) run[name] = value;
  }
  if (stored.commented === true) run.commented = true;
  if (stored.costed === true) run.costed = true;
  return run;
}
