/** What this product promises when the server, the daemon or both stop or die, checked on the real server. One check after the other. */

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";

import { until } from "./paperclip.ts";
import { World } from "./world.ts";

describe("when a part stops", () => {
  let world: World;
  before(async () => {
    world = await World.start("restarts");
  });
  // A check that failed may have left something stopped.
  beforeEach(() => world.stage.ensureRunning());
  after(() => world.end());

  test("the daemon is killed in mid-run and starts again: no line is missing or doubled, and the run succeeds", async () => {
    const agent = await world.agent({ lines: 60, pauseMs: 100 });
    const { run } = await world.task(agent);
    await world.working(run.id);
    await outputOf(world, run.id, "line 5 ");
    await world.stage.stopDaemon("SIGKILL");
    await pause(1_000);
    world.stage.startDaemon();
    const ended = await world.paperclip.ended(run.id);
    assert.equal(ended.status, "succeeded", ended.error ?? "");
    assert.deepEqual(numbers(await world.paperclip.output(run.id)), range(60));
  });

  test("the daemon is down at the start: the run waits, says so, and starts when it comes", async () => {
    await world.stage.stopDaemon("SIGTERM");
    const agent = await world.agent({});
    const { issue, run } = await world.task(agent);
    await until("a status", 30_000, async () => {
      const waits = (await world.paperclip.output(run.id, "system")).includes("Waiting for paperclip-host");
      return waits ? true : undefined;
    });
    // Form, models and environment test answer all the same.
    const schema = await world.paperclip.get<{ fields: unknown[] }>("adapters/claude_k8s/config-schema");
    assert.ok(schema.fields.length > 10);
    assert.ok((await world.paperclip.get<unknown[]>(`companies/${world.company}/adapters/claude_k8s/models?refresh=true`)).length > 2);
    const report = await world.paperclip.post<{ status: string; checks: { code: string; hint: string }[] }>(
      `companies/${world.company}/adapters/claude_k8s/test-environment`,
      { adapterConfig: {} },
    );
    assert.deepEqual([report.status, report.checks[0]?.code], ["fail", "k8s_host_unreachable"]);
    assert.match(report.checks[0]?.hint ?? "", /start `paperclip-host serve`/);
    world.stage.startDaemon();
    const ended = await world.paperclip.ended(run.id);
    assert.equal(ended.status, "succeeded", ended.error ?? "");
    assert.equal((await world.paperclip.issue(issue.id)).status, "done");
  });

  test("the daemon is away for longer than a run waits: the run fails, nothing was started, and the server's retry does the task", async () => {
    await world.stage.stopDaemon("SIGTERM");
    const agent = await world.agent({});
    const { issue, run } = await world.task(agent);
    const failed = await world.paperclip.ended(run.id, 180_000);
    assert.deepEqual([failed.status, failed.errorCode], ["failed", "k8s_host_unreachable"]);
    assert.deepEqual(failed.resultJson?.executionRecovery, { kind: "bootstrap", providerWorkStarted: false });
    assert.equal(failed.resultJson.conversationContinuation, "continue_conversation_v1");
    assert.equal((await world.paperclip.issue(issue.id)).status, "in_progress");
    world.stage.startDaemon();
    const retry = await world.paperclip.nthRun(world.company, issue.id, 2);
    assert.equal(retry.contextSnapshot?.wakeReason, "transient_failure_retry");
    const ended = await world.paperclip.ended(retry.id, 180_000);
    assert.equal(ended.status, "succeeded", ended.error ?? "");
    assert.equal((await world.paperclip.issue(issue.id)).status, "done");
    assert.deepEqual(world.work(issue.id), [`${retry.id} started`, `${retry.id} finished`]);
  });

  test("SIGTERM of the server leaves the agent at work, and what it did is delivered by a comment", async () => {
    const agent = await world.agent({ lines: 160, pauseMs: 250 });
    const { issue, run } = await world.task(agent);
    await world.working(run.id);
    await outputOf(world, run.id, "line 2 ");
    await world.stage.stopServer("SIGTERM");
    assert.ok(world.isAlive(run.id), "the agent works while the server is away");
    await world.stage.startServer();
    assert.equal((await world.paperclip.run(run.id)).status, "interrupted");
    await delivered(world, issue.id, run.id);
  });

  test("kill -9 of the server, twice: the agent's work is done once, and delivered once", async () => {
    const agent = await world.agent({ lines: 300, pauseMs: 250 });
    const { issue, run } = await world.task(agent);
    await world.working(run.id);
    await outputOf(world, run.id, "line 2 ");
    for (let round = 0; round < 2; round += 1) {
      await world.stage.stopServer("SIGKILL");
      await pause(1_000);
      await world.stage.startServer();
    }
    await delivered(world, issue.id, run.id, 480_000);
  });

  test("server and daemon are killed at once: nothing is done twice", async () => {
    const agent = await world.agent({ lines: 60, pauseMs: 250 });
    const { issue, run } = await world.task(agent);
    await world.working(run.id);
    await outputOf(world, run.id, "line 2 ");
    await Promise.all([world.stage.stopServer("SIGKILL"), world.stage.stopDaemon("SIGKILL")]);
    // The server ends the run at its start if it was away for longer than the run's lease.
    await pause(65_000);
    world.stage.startDaemon();
    await world.stage.startServer();
    await delivered(world, issue.id, run.id);
  });
});

/** The run's result arrives as one comment, and the agent has done its work once. */
async function delivered(world: World, issue: string, run: string, timeoutMs = 240_000): Promise<void> {
  const mentions = async (): Promise<string[]> =>
    (await world.paperclip.comments(issue)).map((comment) => comment.body).filter((body) => body.includes("while Paperclip's server was away"));
  const [comment] = await until("the delivery", timeoutMs, async () => {
    const found = await mentions();
    return found.length > 0 ? found : undefined;
  });
  assert.ok(comment?.includes(`run \`${run}\``) && comment.includes(`Finished run ${run}.`), comment);
  await pause(20_000);
  assert.equal((await mentions()).length, 1);
  assert.deepEqual(world.work(issue), [`${run} started`, `${run} finished`]);
}

async function outputOf(world: World, run: string, text: string): Promise<void> {
  await until(`output ${text}`, 60_000, async () => ((await world.paperclip.output(run)).includes(text) ? true : undefined));
}

function numbers(output: string): number[] {
  return [...output.matchAll(/^● line (\d+) of run/gm)].map(([, number]) => Number(number));
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
