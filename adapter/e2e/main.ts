/**
 * What `cargo xtask paperclip` runs. Its variables name what was built and installed: STAGE_FOLDER, STAGE_HOST, STAGE_SERVER, STAGE_PORT.
 */

import { spawnSync } from "node:child_process";
import { delimiter, join } from "node:path";

import { figures } from "./figures.ts";
import { Paperclip } from "./paperclip.ts";
import { soak } from "./soak.ts";
import { downFromState, isRunning, readState, Stage } from "./stage.ts";

const folder = variable("STAGE_FOLDER");

switch (process.argv[2]) {
  case "up":
    await up();
    break;
  case "demo":
    await demo(false);
    break;
  case "demo-claude":
    await demo(true);
    break;
  case "down":
    print((await downFromState(folder)) ? "Paperclip's server, its database and the daemon have ended." : "Nothing runs.");
    break;
  case "status":
    status();
    break;
  case "e2e":
    process.exitCode = e2e();
    break;
  case "soak":
    process.exitCode = await soak({
      minutes: Number(process.env.SOAK_MINUTES ?? 60),
      everyMinutes: Number(process.env.SOAK_EVERY ?? 5),
      agents: Number(process.env.SOAK_AGENTS ?? 4),
    });
    break;
  case "figures":
    process.exitCode = await figures(Number(process.env.FIGURES_MINUTES ?? 10));
    break;
  default:
    throw new Error("usage: main.ts up|down|status|demo|demo-claude|e2e|soak|figures");
}

interface Started {
  stage: Stage;
  paperclip: Paperclip;
  company: { id: string; issuePrefix: string };
}

async function start(bin?: string): Promise<Started> {
  await downFromState(folder);
  const stage = new Stage({ folder, host: variable("STAGE_HOST"), server: variable("STAGE_SERVER"), ...(bin !== undefined && { claude: bin }) });
  await stage.prepare(Number(process.env.STAGE_PORT ?? 3100));
  print("Starting the daemon and Paperclip's server; its first start creates the database (half a minute) ...");
  try {
    await stage.startCluster();
    stage.startDaemon();
    await stage.startServer();
    await stage.daemonListens();
    stage.save();
    const paperclip = new Paperclip(stage.url);
    await paperclip.post("adapters/install", { packageName: stage.adapter("claude_k8s"), isLocalPath: true });
    if (process.env.STAGE_OVERRIDE !== undefined) {
      await paperclip.post("adapters/install", { packageName: stage.adapter("claude_local"), isLocalPath: true });
    }
    return { stage, paperclip, company: await paperclip.company("Acme") };
  } catch (error) {
    await stage.down();
    throw error;
  }
}

async function up(): Promise<void> {
  const { stage, paperclip, company } = await start();
  await paperclip.agent(company.id, "Nova", "claude_k8s", { image: "local/claude" });
  print(`\nPaperclip:    ${stage.url}/${company.issuePrefix}/issues`);
  print(`Daemon:       unix:${join(stage.home, "paperclip-host.sock")}`);
  print(`Logs:         ${join(stage.folder, "server.log")}, ${join(stage.folder, "daemon.log")}`);
  print("\nThe agent Nova (claude_k8s) runs a stand-in for Claude Code. To end everything: cargo xtask paperclip down");
}

async function demo(isReal: boolean): Promise<void> {
  const { stage, paperclip, company } = await start(isReal ? realClaude() : undefined);
  const plain = (value: string): { type: string; value: string } => ({ type: "plain", value });
  const recorded = {
    recording: stage.recording("claude-cli-2.1.330/tool.ndjson"),
    pauseMs: 800,
    comment: "I have looked into the folder, as the log of my run shows. There is nothing left to do.",
  };
  const names = ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"];
  const real = names.flatMap((name): [string, unknown][] => (process.env[name] ? [[name, plain(process.env[name])]] : []));
  const agent = await paperclip.agent(company.id, "Nova", "claude_k8s", {
    image: "local/claude",
    env: isReal ? Object.fromEntries(real) : { STAND_IN: plain(JSON.stringify(recorded)) },
    ...(isReal && { maxTurnsPerRun: 5 }),
  });
  const task = isReal
    ? await paperclip.task(company.id, agent.id, "Greet the visitor", "Write a comment of three sentences that greets who tries this out, then set this task to done.")
    : await paperclip.task(company.id, agent.id, "Look into the working directory", "List the files, say what you see, and close this task.");
  const run = await paperclip.nthRun(company.id, task.id, 1);
  print(`\nThe task and its result:  ${stage.url}/${company.issuePrefix}/issues/${task.identifier}`);
  print(`The live log of the run:  ${stage.url}/${company.issuePrefix}/agents/${agent.urlKey ?? agent.id}/runs/${run.id}`);
  print("\nThe agent works now ...");
  const ended = await paperclip.ended(run.id, 600_000);
  const { status } = await paperclip.issue(task.id);
  print(`The run has ${ended.status}${ended.error === null ? "" : `: ${ended.error}`}. The task is ${status}.`);
  for (const comment of await paperclip.comments(task.id)) print(`  ${comment.body.split("\n").join("\n  ")}`);
  print("\nThe server keeps running. To end everything: cargo xtask paperclip down");
}

function status(): void {
  const state = readState(folder);
  if (state === undefined) {
    print("Nothing runs. To start: cargo xtask paperclip up, or demo");
    return;
  }
  const says = (pid: number, program: string): string => (isRunning(pid, program) ? `runs (process ${pid})` : "does not run");
  print(`Paperclip's server  ${says(state.serverPid, "@paperclipai/server")}, http://127.0.0.1:${state.serverPort}`);
  print(`Daemon              ${says(state.daemonPid, "paperclip-host")}, unix:${join(folder, "paperclip/paperclip-host.sock")}`);
  print(`Folder              ${folder}`);
}

/** Runs the checks by Node's test runner: each file has a stage of its own, and they run one after another. */
function e2e(): number {
  const files = process.env.E2E_CI === undefined ? ["runs.test.ts", "restarts.test.ts", "outcomes.test.ts", "browser.test.ts"] : ["runs.test.ts"];
  const names = process.env.E2E_NAME === undefined ? [] : [`--test-name-pattern=${process.env.E2E_NAME}`];
  const paths = files.map((file) => join(import.meta.dirname, file));
  const options = ["--test", "--test-concurrency=1", "--test-reporter=spec", "--test-timeout=900000", ...names, ...paths];
  return spawnSync(process.execPath, options, { stdio: "inherit" }).status ?? 1;
}

function realClaude(): string {
  const found = (process.env.PATH ?? "").split(delimiter).map((path) => join(path, "claude"));
  const program = found.find((path) => spawnSync("test", ["-x", path]).status === 0);
  if (program === undefined) throw new Error("there is no `claude` on PATH");
  return program;
}

function variable(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`${name} is not set: start this by \`cargo xtask paperclip\``);
  return value;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
