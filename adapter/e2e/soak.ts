/**
 * Agents at work for an hour, while each part of the system is killed in turn. At the end every line that an agent has printed is looked for,
 * and every run.
 *
 * The agents' own notes say what they have printed. Where a run's result has reached the server, its log must have each line once. Where the
 * server died in mid-run, the log ends there: up to that place it must have each line once, the daemon's records must have all, and the result
 * must have arrived as a comment or as that of another run of the task.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { type Agent, type Comment, ENDED, type Issue, type Run } from "./paperclip.ts";
import { World } from "./world.ts";

export interface SoakOptions {
  minutes: number;
  /** Between two kills. */
  everyMinutes: number;
  agents: number;
}

/** How long what is unfinished after the last kill can take: the server ends a lost run after 5 minutes, its result is delivered 2 later. */
const SETTLE_MS = 900_000;
const POLL_MS = 5_000;
/** For a line of figures. */
const PROGRESS_MS = 30_000;
/** How long the server is away: within the lease of its runs, and beyond it, so that it ends them at its start. */
const AWAY_MS = [1_000, 70_000];
const PARTS = ["daemon", "server", "both"] as const;
const KILLED = { daemon: "the daemon", server: "the server and its database", both: "the daemon, the server and its database" };

/** A task of the soak, and what is known of it. */
interface Task {
  agent: Agent;
  issue: Issue;
  outcome?: Outcome;
  /** Why the task is not settled yet. */
  pending: string;
}

interface Outcome {
  /** How the results of the task's agents have arrived. */
  results: number;
  comments: number;
  lines: number;
  /** Lines that are in the daemon's records alone: the server was away. */
  away: number;
  lost: number;
  doubled: number;
  /** Results that have arrived more often than once. */
  repeated: number;
  /** Runs of an agent beyond the first that do what was done. */
  workedAgain: number;
  faults: string[];
}

export async function soak(options: SoakOptions): Promise<number> {
  const world = await World.start("soak");
  try {
    return await new Soak(world, options).run();
  } finally {
    await world.end();
  }
}

class Soak {
  private readonly world: World;
  private readonly options: SoakOptions;
  private readonly tasks: Task[] = [];
  private readonly kills = new Map<string, number>();
  private readonly start = performance.now();
  private readonly end: number;
  /** While the server is away nobody asks it. */
  private available: Promise<void> = Promise.resolve();
  /** Tasks that are created at the same moment block this server's database pool. */
  private creation: Promise<unknown> = Promise.resolve();

  constructor(world: World, options: SoakOptions) {
    this.world = world;
    this.options = options;
    this.end = this.start + options.minutes * 60_000;
  }

  async run(): Promise<number> {
    await this.world.paperclip.post("adapters/install", { packageName: this.world.stage.adapter("claude_local"), isLocalPath: true });
    const agents: [Agent, number][] = [];
    for (let index = 0; index < this.options.agents; index += 1) {
      // Runs of 20 to 65 s, a line each 0.1 s; the last agent has the type that the override package serves.
      const lines = 200 + 150 * (index % 4);
      const type = index === this.options.agents - 1 ? "claude_local" : "claude_k8s";
      agents.push([await this.world.agent({ lines, pauseMs: 100, journal: true }, {}, {}, type), index]);
    }
    this.note(`${agents.length} agents work for ${this.options.minutes} min; every ${this.options.everyMinutes} min a part is killed`);
    const progress = setInterval(() => {
      this.progress();
    }, PROGRESS_MS);
    try {
      await Promise.all([this.kill(), ...agents.map(([agent]) => this.work(agent))]);
    } finally {
      clearInterval(progress);
    }
    return this.report();
  }

  /** Kills each part in turn, and starts it again. */
  private async kill(): Promise<void> {
    const everyMs = this.options.everyMinutes * 60_000;
    for (let round = 0; ; round += 1) {
      const next = this.start + (round + 1) * everyMs;
      if (next >= this.end) return;
      await pause(next - performance.now());
      const part = PARTS[round % PARTS.length] ?? "both";
      const awayMs = AWAY_MS[Math.floor(round / PARTS.length) % AWAY_MS.length] ?? 1_000;
      this.kills.set(part, (this.kills.get(part) ?? 0) + 1);
      this.note(`SIGKILL: ${KILLED[part]}; away for ${awayMs / 1000} s`);
      await this.killPart(part, awayMs);
      this.note("everything runs again");
    }
  }

  private async killPart(part: (typeof PARTS)[number], awayMs: number): Promise<void> {
    const { stage } = this.world;
    let isBack = (): void => undefined;
    if (part !== "daemon") this.available = new Promise((resolve) => (isBack = resolve));
    try {
      await Promise.all([
        part === "server" ? undefined : stage.stopDaemon("SIGKILL"),
        part === "daemon" ? undefined : stage.stopServer("SIGKILL").then(() => stage.killDatabase()),
      ]);
      await pause(awayMs);
      if (part !== "server") stage.startDaemon();
      if (part !== "daemon") await stage.startServer();
    } finally {
      isBack();
    }
  }

  /** Gives an agent one task after another. The next one comes when the agent has done its work, whatever the server knows of it. */
  private async work(agent: Agent): Promise<void> {
    const settling: Promise<void>[] = [];
    while (performance.now() < this.end) {
      const task: Task = { agent, issue: await this.create(agent), pending: "no run" };
      this.tasks.push(task);
      const settled = this.settle(task);
      settling.push(settled);
      const finished = this.finished(task.issue);
      await Promise.race([settled, finished]);
    }
    await Promise.all(settling);
  }

  private async finished(issue: Issue): Promise<void> {
    while (!this.world.work(issue.id).some((line) => line.endsWith(" finished"))) await pause(500);
  }

  private async create(agent: Agent): Promise<Issue> {
    const title = `Count (${this.tasks.length}, ${agent.name}, ${Math.round(performance.now())})`;
    const { paperclip, company } = this.world;
    const created = this.creation.then(() =>
      this.asked(async () => {
        // The answer to an earlier attempt may have been lost.
        const issues = await paperclip.get<Issue[]>(`companies/${company}/issues?assigneeAgentId=${agent.id}`);
        return issues.find((issue) => issue.title === title) ?? (await paperclip.task(company, agent.id, title, "Count."));
      }),
    );
    this.creation = created.catch(() => undefined);
    return await created;
  }

  /** Asks the server, again after it was away. */
  private async asked<T>(ask: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + 600_000;
    for (;;) {
      await this.available;
      try {
        return await ask();
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await pause(1_000);
      }
    }
  }

  /** Waits until the results of all agents of a task have arrived. */
  private async settle(task: Task): Promise<void> {
    for (;;) {
      const outcome = await this.asked(() => this.judge(task));
      const isLate = performance.now() > this.end + SETTLE_MS;
      if (typeof outcome !== "string") {
        task.outcome = outcome;
        for (const fault of outcome.faults) this.note(`${task.issue.identifier}: ${fault}`);
        return;
      }
      if (outcome !== task.pending) task.pending = outcome;
      if (isLate) return;
      await pause(POLL_MS);
    }
  }

  /** What has become of a task, or what it waits for. */
  private async judge(task: Task): Promise<Outcome | string> {
    const { paperclip, company, stage } = this.world;
    const work = this.world.work(task.issue.id);
    const started = [...new Set(work.filter((line) => line.endsWith(" started")).map((line) => line.split(" ", 1)[0] ?? ""))];
    if (started.length === 0) return "no agent has started";
    const unfinished = started.find((run) => !work.includes(`${run} finished`));
    if (unfinished !== undefined) return `the agent of run ${unfinished} has not finished`;
    const runs = await paperclip.runs(company, task.issue.id, task.agent.id);
    const open = runs.find((run) => !ENDED.includes(run.status));
    if (open !== undefined) return `run ${open.id} is ${open.status}`;
    const comments = await paperclip.comments(task.issue.id);
    const outcome: Outcome = { results: 0, comments: 0, lines: 0, away: 0, lost: 0, doubled: 0, repeated: 0, workedAgain: 0, faults: [] };
    outcome.workedAgain = work.filter((line) => line.endsWith(" started")).length - 1;
    if (outcome.workedAgain > 0) outcome.faults.push(`worked again: ${describeRuns(runs)}`);
    const logs = new Map<Run, string>();
    for (const run of runs) logs.set(run, await paperclip.output(run.id));
    for (const agent of started) {
      const holders = runs.filter((run) => run.status === "succeeded" && JSON.stringify(run.resultJson).includes(`Finished run ${agent}.`));
      const notes = comments.filter((comment) => isDelivery(comment, agent));
      if (holders.length + notes.length === 0) return `the result of run ${agent} has not arrived: ${describeRuns(runs)}`;
      outcome.results += holders.length;
      outcome.comments += notes.length;
      outcome.repeated += holders.length + notes.length - 1;
      if (holders.length + notes.length > 1) outcome.faults.push(`run ${agent} has ${holders.length} results and ${notes.length} comments`);
      const printed = numbers(readFileSync(join(stage.shared, `${agent}.printed`), "utf8"), /^(\d+)$/gm);
      outcome.lines += printed.length;
      const kept = numbers(await stage.askDaemon(`v1/runs/${agent}/events?from=0`), lineOf(agent));
      const records = [{ what: "the daemon", found: kept, isWhole: true }];
      for (const [run, log] of logs) {
        const isWhole = holders.includes(run);
        records.push({ what: `run ${run.id} (${run.status})`, found: numbers(log, lineOf(agent)), isWhole });
      }
      const best = Math.max(...records.slice(1).map(({ found }) => new Set(found).size));
      outcome.away += Math.max(printed.length - best, 0);
      for (const { what, found, isWhole } of records) {
        const distinct = new Set(found);
        const last = Math.max(-1, ...found);
        // A log that ends with its server has no end, but no gap either.
        const expected = isWhole ? printed : printed.filter((number) => number <= last);
        const lost = expected.filter((number) => !distinct.has(number)).length;
        const doubled = found.length - distinct.size;
        outcome.lost += lost;
        outcome.doubled += doubled;
        if (lost + doubled > 0) outcome.faults.push(`run ${agent} in ${what}: of ${expected.length} lines ${lost} lost, ${doubled} doubled`);
      }
    }
    return outcome;
  }

  private progress(): void {
    const settled = this.tasks.flatMap((task) => task.outcome ?? []);
    const open = this.tasks.filter((task) => task.outcome === undefined);
    const sum = (name: "lines" | "lost" | "doubled"): number => settled.reduce((total, outcome) => total + outcome[name], 0);
    this.note(`${settled.length} of ${this.tasks.length} tasks settled; lines: ${sum("lines")}, lost ${sum("lost")}, doubled ${sum("doubled")}`);
    if (performance.now() > this.end) for (const task of open) this.note(`  ${task.issue.identifier} waits: ${task.pending}`);
  }

  private report(): number {
    const settled = this.tasks.flatMap((task) => task.outcome ?? []);
    const lostTasks = this.tasks.filter((task) => task.outcome === undefined);
    for (const task of lostTasks) this.note(`${task.issue.identifier} (${task.agent.name}): ${task.pending}`);
    const sum = (count: (outcome: Outcome) => number): number => settled.reduce((total, outcome) => total + count(outcome), 0);
    const kills = PARTS.map((part) => `${part} ${this.kills.get(part) ?? 0}`).join(", ");
    const zero: [string, number][] = [
      ["lines lost", sum(({ lost }) => lost)],
      ["lines doubled", sum(({ doubled }) => doubled)],
      ["runs lost", lostTasks.length],
      ["results that arrived twice", sum(({ repeated }) => repeated)],
      ["runs that did finished work again", sum(({ workedAgain }) => workedAgain)],
    ];
    const rows: [string, number | string][] = [
      ["kills", kills],
      ["tasks", this.tasks.length],
      ["results in a run", sum(({ results }) => results)],
      ["results in a comment", sum(({ comments }) => comments)],
      ["lines printed", sum(({ lines }) => lines)],
      ["lines in the daemon's records alone", sum(({ away }) => away)],
      ...zero,
    ];
    const width = Math.max(...rows.map(([name]) => name.length));
    print("");
    for (const [name, value] of rows) print(`${name.padEnd(width)}  ${value}`);
    return zero.every(([, value]) => value === 0) ? 0 : 1;
  }

  private note(line: string): void {
    const seconds = Math.round((performance.now() - this.start) / 1000);
    print(`${String(Math.floor(seconds / 60)).padStart(3)}:${String(seconds % 60).padStart(2, "0")}  ${line}`);
  }
}

function isDelivery(comment: Comment, run: string): boolean {
  return comment.body.includes("while Paperclip's server was away") && comment.body.includes(`Finished run ${run}.`);
}

function describeRuns(runs: readonly Run[]): string {
  return runs.map((run) => `${run.id} ${run.status}${run.errorCode === null ? "" : ` (${run.errorCode})`}`).join(", ");
}

function lineOf(run: string): RegExp {
  return new RegExp(`line (\\d+) of run ${run}`, "g");
}

function numbers(text: string, pattern: RegExp): number[] {
  return [...text.matchAll(pattern)].map(([, number]) => Number(number));
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, Math.max(ms, 0)));
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
