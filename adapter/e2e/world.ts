/** A stage with a company, for the checks of one file. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { type Agent, type Issue, Paperclip, type Run, until } from "./paperclip.ts";
import { Stage } from "./stage.ts";

/** What the stand-in for the agent does; `agent/claude` explains each member. */
export interface Plan {
  recording?: string;
  lines?: number;
  pauseMs?: number;
  big?: number;
  unbroken?: boolean;
  journal?: boolean;
  stamp?: boolean;
  api?: "401";
  close?: string | null;
  comment?: string;
  secret?: string;
  hang?: boolean;
  result?: Record<string, unknown>;
}

export class World {
  readonly stage: Stage;
  readonly paperclip: Paperclip;
  readonly company: string;
  readonly prefix: string;
  private agents = 0;
  private tasks = 0;

  private constructor(stage: Stage, paperclip: Paperclip, company: { id: string; issuePrefix: string }) {
    this.stage = stage;
    this.paperclip = paperclip;
    this.company = company.id;
    this.prefix = company.issuePrefix;
  }

  /** Starts everything in a folder of its own, and installs the adapter. */
  static async start(name: string): Promise<World> {
    const stage = new Stage({ folder: join(variable("STAGE_FOLDER"), name), host: variable("STAGE_HOST"), server: variable("STAGE_SERVER") });
    await stage.prepare();
    try {
      await stage.startCluster();
      stage.startDaemon();
      await stage.startServer();
      await stage.daemonListens();
      const paperclip = new Paperclip(stage.url);
      await paperclip.post("adapters/install", { packageName: stage.adapter("claude_k8s"), isLocalPath: true });
      return new World(stage, paperclip, await paperclip.company("Acme"));
    } catch (error) {
      await stage.down();
      throw error;
    }
  }

  async end(): Promise<void> {
    await this.stage.down();
  }

  /** Creates an agent that follows a plan. */
  async agent(plan: Plan, config: Record<string, unknown> = {}, env: Record<string, unknown> = {}, type = "claude_k8s"): Promise<Agent> {
    this.agents += 1;
    const standIn = { type: "plain", value: JSON.stringify({ folder: this.stage.shared, ...plan }) };
    const adapterConfig = { image: "local/claude", ...config, env: { STAND_IN: standIn, ...env } };
    return await this.paperclip.agent(this.company, `Agent ${this.agents}`, type, adapterConfig);
  }

  /** Gives an agent a task, and returns it with its first run. */
  async task(agent: Agent, title?: string, description = "Do it."): Promise<{ issue: Issue; run: Run }> {
    this.tasks += 1;
    // The server takes tasks with the same title for one.
    title ??= `Task ${this.tasks}`;
    const issue = await this.paperclip.task(this.company, agent.id, title, description);
    return { issue, run: await this.paperclip.nthRun(this.company, issue.id, 1) };
  }

  /** Gives an agent a task, and returns it with its first run when that has ended. */
  async done(agent: Agent, title?: string, description?: string): Promise<{ issue: Issue; run: Run }> {
    const { issue, run } = await this.task(agent, title, description);
    return { issue, run: await this.paperclip.ended(run.id) };
  }

  hasNote(run: string, name: string): boolean {
    return existsSync(join(this.stage.shared, `${run}.${name}`));
  }

  /** What the agent of a run has noted: its `prompt`, `args`, `env`, `files` or `pid`. */
  note(run: string, name: string): string {
    return readFileSync(join(this.stage.shared, `${run}.${name}`), "utf8");
  }

  /** The files beside the agent of a run: its working directory, and the folders that its arguments name. */
  files(run: string): Record<string, string> {
    return JSON.parse(this.note(run, "files")) as Record<string, string>;
  }

  /** Waits until the agent of a run works. */
  async working(run: string, timeoutMs = 60_000): Promise<void> {
    await until(`the agent of run ${run}`, timeoutMs, () => Promise.resolve(this.hasNote(run, "env") || undefined));
  }

  /**
   * Waits until the prompt of one of a task's runs has a text, and returns that run. Which run that is, a person does not choose: a comment starts a run of its own,
   * or joins the one by which the server tries again or asks for the task's status.
   */
  async reads(issue: Issue, text: string, timeoutMs = 60_000): Promise<Run> {
    return await until(`a prompt with "${text}"`, timeoutMs, async () => {
      const runs = await this.paperclip.runs(this.company, issue.id);
      return runs.find(({ id }) => this.hasNote(id, "prompt") && this.note(id, "prompt").includes(text));
    });
  }

  /** Whether the process of a run's agent exists. */
  isAlive(run: string): boolean {
    return existsSync(`/proc/${this.note(run, "pid")}`);
  }

  /** The lines that agents have written about a task: `<run> started`, `<run> finished`. */
  work(issue: string): string[] {
    const path = join(this.stage.shared, "work");
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, "utf8").split("\n");
    return lines.filter((line) => line.startsWith(issue)).map((line) => line.slice(issue.length + 1));
  }
}

export function variable(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`${name} is not set: start this by \`cargo xtask paperclip e2e\``);
  return value;
}

/** Whether only the checks run that every change must pass. */
export const IS_CI = process.env.E2E_CI !== undefined;
