/** Measures what the adapter costs Paperclip's server: requests, processor time, memory, and the time of a line from the agent to a reader. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { Paperclip } from "./paperclip.ts";
import { Stage } from "./stage.ts";
import { variable, World } from "./world.ts";

/** A line each 60 ms: 10,000 in 10 minutes. */
const PAUSE_MS = 60;
const IDLE_MS = 60_000;
/** What the server does after its start and after a run. */
const SETTLE_MS = 45_000;
/** Linux counts processor time in ticks of 10 ms. */
const TICK_MS = 10;

/** One figure in the table. */
type Row = [what: string, value: string];

export async function figures(minutes: number): Promise<number> {
  const lines = Math.round((minutes * 60_000) / PAUSE_MS);
  const rows: Row[] = [];
  print("Measuring the server without the adapter ...");
  const without = await memoryWithout();
  const world = await World.start("figures");
  try {
    const pid = world.stage.serverPid;
    // A first run loads what the server loads once.
    const warm = await world.done(await world.agent({}));
    if (warm.run.status !== "succeeded") throw new Error(`the first run has ${warm.run.status}: ${warm.run.error ?? ""}`);
    print("Measuring the server without a run ...");
    await pause(SETTLE_MS);
    const idle = await over(pid, () => pause(IDLE_MS));
    const before = await answers(world.stage);
    print(`Measuring a run of ${lines} lines in ${minutes} min ...`);
    const agent = await world.agent({ lines, pauseMs: PAUSE_MS, stamp: true });
    const reader = new Reader(world.stage.url, world.company);
    let own: number[] = [];
    const busy = await over(pid, async () => {
      const { run } = await world.task(agent);
      // Asking for the run's state would cost processor time, too.
      await pause(minutes * 60_000);
      const ended = await world.paperclip.ended(run.id, minutes * 60_000 * 3);
      if (ended.status !== "succeeded") throw new Error(`the run has ${ended.status}: ${ended.error ?? ""}`);
      own = await reader.latencies(run.id, lines);
      const log = new Set([...(await world.paperclip.output(run.id)).matchAll(/line (\d+) of run/g)].map(([, number]) => number));
      rows.push(["lines printed, in the server's log, and at the reader", `${lines}, ${log.size}, ${own.length}`]);
    });
    reader.close();
    // The adapter confirms that the result is stored.
    await pause(5_000);
    const asked = difference(before, await answers(world.stage));
    const total = [...asked.values()].reduce((sum, count) => sum + count, 0);
    rows.push(["requests of the adapter to the daemon", `${total} (${[...asked].map(([route, count]) => `${count} ${route}`).join(", ")})`]);
    rows.push(["processor time of the server without a run", `${percent(idle.share)} of a core`]);
    rows.push(["processor time of the server with the run", `${percent(busy.share)} of a core`]);
    rows.push(["from agent to reader", `p50 ${quantile(own, 0.5)} ms, p99 ${quantile(own, 0.99)} ms, max ${quantile(own, 1)} ms`]);
    rows.push(["memory of the server without the adapter", `${mib(without)} MiB`]);
    rows.push(["with the adapter, without a run", `${mib(idle.memory)} MiB`]);
    rows.push(["with the adapter, during the run", `${mib(busy.memory)} MiB`]);
  } finally {
    await world.end();
  }
  const width = Math.max(...rows.map(([what]) => what.length));
  print("");
  for (const [what, value] of rows) print(`${what.padEnd(width)}  ${value}`);
  return 0;
}

/** The memory of a server that has no adapter of this host. */
async function memoryWithout(): Promise<number> {
  const stage = new Stage({ folder: join(variable("STAGE_FOLDER"), "figures"), host: variable("STAGE_HOST"), server: variable("STAGE_SERVER") });
  await stage.prepare();
  try {
    await stage.startServer();
    await new Paperclip(stage.url).company("Acme");
    return (await over(stage.serverPid, () => pause(IDLE_MS))).memory;
  } finally {
    await stage.down();
  }
}

interface Use {
  wallMs: number;
  cpuMs: number;
  /** Processor time by time. */
  share: number;
  /** The median of its resident memory, in bytes. */
  memory: number;
}

/** What a process uses while something happens. */
async function over(pid: number, work: () => Promise<void>): Promise<Use> {
  const memory: number[] = [];
  const sampling = setInterval(() => memory.push(residentBytes(pid)), 1_000);
  const [start, ticks] = [performance.now(), ticksOf(pid)];
  try {
    await work();
  } finally {
    clearInterval(sampling);
  }
  const [wallMs, cpuMs] = [performance.now() - start, (ticksOf(pid) - ticks) * TICK_MS];
  return { wallMs, cpuMs, share: cpuMs / wallMs, memory: quantile(memory, 0.5) };
}

function ticksOf(pid: number): number {
  // After the name, which may hold spaces: state is the first field, utime the twelfth.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

/** The daemon's answers by route. */
async function answers(stage: Stage): Promise<Map<string, number>> {
  const metrics = await stage.askDaemon("metrics");
  const counts = new Map<string, number>();
  for (const [, route = "", count] of metrics.matchAll(/^paperclip_http_answers_total\{route="([^"]*)",[^}]*\} (\d+)$/gm)) {
    if (route !== "/metrics") counts.set(route, (counts.get(route) ?? 0) + Number(count));
  }
  return counts;
}

function difference(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): Map<string, number> {
  const rows = [...after].map(([route, count]): [string, number] => [route, count - (before.get(route) ?? 0)]);
  return new Map(rows.filter(([, count]) => count > 0));
}

/** Reads the output of runs as the server's page does: from the WebSocket of the company's live events. */
class Reader {
  private readonly socket: WebSocket;
  /** By run: the time of each line from the agent to here, by its number. */
  private readonly found = new Map<string, Map<number, number>>();

  constructor(url: string, company: string) {
    this.socket = new WebSocket(`${url.replace("http", "ws")}/api/companies/${company}/events/ws`);
    this.socket.addEventListener("message", (message) => {
      const now = Date.now();
      const event = JSON.parse(String(message.data)) as { type: string; payload: { runId: string; chunk: string } };
      if (event.type !== "heartbeat.run.log") return;
      const { runId, chunk } = event.payload;
      const found = this.found.get(runId) ?? new Map<number, number>();
      this.found.set(runId, found);
      for (const [, line, printed] of chunk.matchAll(/line (\d+) of run \S+ at (\d+)/g)) found.set(Number(line), now - Number(printed));
    });
  }

  /** The times of a run that has ended, when all of its lines are here or some seconds have passed. */
  async latencies(run: string, lines: number): Promise<number[]> {
    for (let attempt = 0; attempt < 50 && (this.found.get(run)?.size ?? 0) < lines; attempt += 1) await pause(100);
    return [...(this.found.get(run)?.values() ?? [])];
  }

  close(): void {
    this.socket.close();
  }
}

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function mib(bytes: number): number {
  return Math.round(bytes / (1 << 20));
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
