/** What this product promises of a run, checked on the real server. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { ENDED, type Issue, until } from "./paperclip.ts";
import { IS_CI, World } from "./world.ts";

describe("a run inside Paperclip", { concurrency: 4 }, () => {
  let world: World;
  before(async () => {
    world = await World.start("runs");
  });
  after(() => world.end());

  test("the prompt has title, description and comments of the task", async () => {
    const agent = await world.agent({ close: null, comment: "What now?" });
    const { issue, run } = await world.done(agent, "The title of the task", "The description of the task");
    assert.equal(run.status, "succeeded", run.error ?? "");
    assert.match(world.note(run.id, "prompt"), /The title of the task/);
    assert.match(world.note(run.id, "prompt"), /The description of the task/);
    await world.paperclip.comment(issue.id, "The text of the comment");
    await world.reads(issue, "The text of the comment");
  });

  test("a description of 200 kB reaches the agent whole", async () => {
    const agent = await world.agent({});
    const description = `${"words of the task ".repeat(11_000)} and its last words`;
    const { run } = await world.done(agent, "A large task", description);
    assert.equal(run.status, "succeeded", run.error ?? "");
    const texts = [world.note(run.id, "prompt"), ...Object.values(world.files(run.id))];
    assert.ok(texts.some((text) => text.includes(description)), "neither in the prompt nor in a file beside it");
  });

  test("no variable names a folder of the server's machine, and what is harmless is not masked", async () => {
    const agent = await world.agent({ lines: 1 });
    const { run } = await world.done(agent);
    const env = JSON.parse(world.note(run.id, "env")) as Record<string, string>;
    for (const name of ["GH_CONFIG_DIR", "PAPERCLIP_GITHUB_HOST_HOME", "PAPERCLIP_RUN_SCRATCH_DIR"]) {
      assert.ok(!(env[name] ?? "").includes(world.stage.home), `${name}=${env[name] ?? ""}`);
    }
    assert.equal(env.PAPERCLIP_API_URL, world.stage.url);
    assert.ok(!(await world.paperclip.output(run.id)).includes("[redacted:"));
  });

  test("every line of a recording is in the log once and in order", async () => {
    const recording = world.stage.recording("claude-cli-2.1.330/tool.ndjson");
    const agent = await world.agent({ recording, pauseMs: 1 }, { logFormat: "raw" });
    const { run } = await world.done(agent);
    assert.equal(run.status, "succeeded", run.error ?? "");
    const own = (await world.paperclip.output(run.id)).split("\n").filter((line) => line.startsWith("{"));
    const recorded = readFileSync(recording, "utf8").trimEnd().split("\n");
    assert.equal(own.length, recorded.length);
    // The server itself masks by key names within JSON.
    for (const [index, line] of recorded.entries()) assert.ok(unmasked(own[index] ?? "") === unmasked(line), `line ${index} differs`);
    assert.ok(!own.join("").includes("[redacted:"));
  });

  test("lines of 200 kB arrive whole, and do not block the server", async () => {
    for (const unbroken of [false, true]) {
      const agent = await world.agent({ big: 200_000, unbroken }, { logFormat: "raw" });
      const { run } = await world.task(agent);
      let slowest = 0;
      for (let ended = false; !ended; ) {
        const start = performance.now();
        ended = ENDED.includes((await world.paperclip.run(run.id)).status);
        slowest = Math.max(slowest, performance.now() - start);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const output = await world.paperclip.output(run.id);
      assert.ok(output.includes(unbroken ? "x".repeat(200_000) : "word ".repeat(40_000)));
      assert.ok(slowest < 5_000, `the server did not answer for ${slowest} ms`);
    }
  });

  test("usage, cost and session are kept, and the next run of the task resumes the session in the same folder", async () => {
    const agent = await world.agent({ close: "in_review" });
    const { issue, run } = await world.done(agent);
    assert.equal(run.status, "succeeded", run.error ?? "");
    assert.equal(run.usageJson?.inputTokens, 100);
    assert.equal(run.usageJson.costUsd, 0.0123);
    assert.equal(run.usageJson.billingType, "metered_api");
    await world.paperclip.comment(issue.id, "Once again.");
    const second = await world.paperclip.nthRun(world.company, issue.id, 2);
    await world.paperclip.ended(second.id);
    const args = JSON.parse(world.note(second.id, "args")) as string[];
    assert.equal(args[args.indexOf("--resume") + 1], run.sessionIdAfter);
    const cwd = (id: string): unknown => (JSON.parse(world.note(id, "env")) as Record<string, unknown>).cwd;
    assert.equal(cwd(second.id), cwd(run.id));
  });

  test("a comment starts the task again after the API refused the key", async () => {
    const agent = await world.agent({ api: "401", close: null });
    const { issue, run } = await world.done(agent);
    assert.deepEqual([run.status, run.errorCode], ["failed", "claude_auth_required"]);
    await continuesAfterComment(world, issue);
  });

  test("a comment starts the task again after a timeout", async () => {
    const agent = await world.agent({ hang: true, close: null }, { timeoutSec: 2 });
    const { issue, run } = await world.done(agent);
    assert.deepEqual([run.status, run.errorCode], ["timed_out", "timeout"]);
    await continuesAfterComment(world, issue);
  });

  test("a cancel is answered in 5 seconds, ends the agent, and a comment starts the task again", async () => {
    const agent = await world.agent({ hang: true, close: null });
    const { issue, run } = await world.task(agent);
    await world.working(run.id);
    await until("output", 20_000, async () => ((await world.paperclip.output(run.id)).includes("line 2") ? true : undefined));
    const start = performance.now();
    await world.paperclip.post(`heartbeat-runs/${run.id}/cancel`);
    const took = performance.now() - start;
    assert.ok(took < 5_000, `${took} ms`);
    assert.equal((await world.paperclip.run(run.id)).status, "cancelled");
    assert.equal(world.isAlive(run.id), false);
    await continuesAfterComment(world, issue);
  });

  test("a secret reaches the agent, and is nowhere in log, events or result", async () => {
    const value = "correct-horse-battery-staple";
    const secret = await world.paperclip.post<{ id: string }>(`companies/${world.company}/secrets`, { name: "the-key", provider: "local_encrypted", value });
    const agent = await world.agent({ secret: "SERVICE_KEY" }, {}, { SERVICE_KEY: { type: "secret_ref", secretId: secret.id } });
    const { run } = await world.done(agent);
    assert.equal(run.status, "succeeded", run.error ?? "");
    assert.equal((JSON.parse(world.note(run.id, "env")) as Record<string, string>).SERVICE_KEY, value);
    const seen = [await world.paperclip.log(run.id), await world.paperclip.get(`heartbeat-runs/${run.id}/events`), run];
    assert.ok(!JSON.stringify(seen).includes(value));
    assert.match(await world.paperclip.output(run.id), /the secret is \[redacted:SERVICE_KEY\]/);
  });

  test("two tasks of one agent end, one after the other", async () => {
    const agent = await world.agent({ lines: 5, pauseMs: 100 });
    const tasks = await Promise.all([world.task(agent, "first"), world.task(agent, "second")]);
    for (const { run } of tasks) {
      const ended = await world.paperclip.ended(run.id);
      assert.equal(ended.status, "succeeded", ended.error ?? "");
    }
  });

  test("form, models and environment test answer", async () => {
    const schema = await world.paperclip.get<{ fields: { key: string }[] }>("adapters/claude_k8s/config-schema");
    const keys = schema.fields.map((field) => field.key);
    assert.ok(keys.includes("image") && keys.includes("logFormat"), keys.join());
    const models = await world.paperclip.get<unknown[]>(`companies/${world.company}/adapters/claude_k8s/models`);
    assert.ok(models.length > 2);
    const report = await world.paperclip.post<{ status: string; checks: { code: string }[] }>(
      `companies/${world.company}/adapters/claude_k8s/test-environment`,
      { adapterConfig: { image: "local/claude" } },
    );
    assert.equal(report.checks[0]?.code, "k8s_host_reachable");
    assert.notEqual(report.status, "fail");
  });

  test("one company does not see the other", async () => {
    const other = await world.paperclip.company("Other");
    const agent = await world.agent({ lines: 1 });
    const { run } = await world.done(agent);
    const { PAPERCLIP_API_KEY: token = "", PAPERCLIP_RUN_ID: id = "" } = JSON.parse(world.note(run.id, "env")) as Record<string, string>;
    const ask = async (path: string): Promise<number> =>
      (await fetch(`${world.stage.url}/api/${path}`, { headers: { authorization: `Bearer ${token}`, "x-paperclip-run-id": id } })).status;
    assert.equal(await ask(`companies/${world.company}/issues`), 200);
    assert.equal(await ask(`companies/${other.id}/issues`), 403);
    assert.equal(await ask("adapters"), 403);
  });

  if (!IS_CI) {
    test("instructions with their siblings, and the skills, are where the agent finds them", async () => {
      const agent = await world.agent({ lines: 1 });
      const put = (path: string, content: string): Promise<unknown> =>
        world.paperclip.call("PUT", `agents/${agent.id}/instructions-bundle/file`, { path, content });
      await put("AGENTS.md", "You are kind. Read HEARTBEAT.md.");
      await put("HEARTBEAT.md", "The text of the sibling.");
      const { run } = await world.done(agent);
      assert.equal(run.status, "succeeded", run.error ?? "");
      const files = world.files(run.id);
      const has = (text: string): boolean => Object.values(files).some((content) => content.includes(text));
      assert.ok(has("You are kind."), Object.keys(files).join("\n"));
      assert.ok(has("The text of the sibling."), Object.keys(files).join("\n"));
      assert.ok(Object.keys(files).some((path) => path.endsWith("skills/paperclip/SKILL.md")), Object.keys(files).join("\n"));
    });

    test("20 tasks at once on one agent run beside each other", async () => {
      const agent = await world.agent({ lines: 2, pauseMs: 200 }, { concurrencyScope: "task" });
      // One after the other: 20 requests at the same moment block this server's database pool for ever.
      const issues = [];
      for (let index = 0; index < 20; index += 1) issues.push(await world.paperclip.task(world.company, agent.id, `Parallel task ${index}`, "Do it."));
      for (const issue of issues) {
        const run = await world.paperclip.nthRun(world.company, issue.id, 1);
        const ended = await world.paperclip.ended(run.id, 180_000);
        assert.equal(ended.status, "succeeded", ended.error ?? "");
      }
    });
  }
});

/** A comment on a task whose run did not succeed starts another run. */
async function continuesAfterComment(world: World, issue: Issue): Promise<void> {
  // The server needs 15 s at most to judge the task.
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  await world.paperclip.comment(issue.id, "Please try again.");
  await world.reads(issue, "Please try again.");
}

/** A line without what the server's own masking may change. */
function unmasked(line: string): string {
  return line.replaceAll(/"(apiKeySource)":"[^"]*"/g, '"$1":""');
}
