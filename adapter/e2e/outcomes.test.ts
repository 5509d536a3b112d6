/** A chat with an agent, and what the real server does with results that its own rules judge in more than one way. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { type Issue, type Run, until } from "./paperclip.ts";
import { World } from "./world.ts";

describe("what the server does", { concurrency: 4 }, () => {
  let world: World;
  before(async () => {
    world = await World.start("outcomes");
    await world.paperclip.patch("instance/settings/experimental", { enableAgentChat: true });
  });
  after(() => world.end());

  test("a chat: the agent answers each message in the same session, and the chat waits for the next one", async () => {
    const agent = await world.agent({ close: null, result: { result: "The answer of the agent." } });
    const chat = await world.paperclip.post<Issue>(`companies/${world.company}/chats/${agent.id}`);
    const first = await said(world, chat, "What is the first question?");
    const prompt = world.note(first.id, "prompt");
    assert.match(prompt, /Chat mode directive/);
    assert.match(prompt, /Continue your Paperclip conversation/);
    const second = await said(world, chat, "What is the second question?");
    const args = JSON.parse(world.note(second.id, "args")) as string[];
    assert.equal(args[args.indexOf("--resume") + 1], first.sessionIdAfter);
  });

  test("a success that ends by the limit of turns: no continuation, and the next run has a new session", async () => {
    const agent = await world.agent({ close: null, result: { stop_reason: "max_turns" } });
    const { issue, run } = await world.done(agent);
    assert.deepEqual([run.status, run.errorCode, run.sessionIdAfter], ["succeeded", null, null]);
    assert.equal(run.resultJson?.stopReason, "completed");
    // As after each success that leaves its task in progress, the server asks for the task's status.
    const next = await world.paperclip.nthRun(world.company, issue.id, 2);
    await world.paperclip.ended(next.id);
    assert.equal(next.contextSnapshot?.wakeReason, "finish_successful_run_handoff");
    const args = JSON.parse(world.note(next.id, "args")) as string[];
    assert.ok(!args.includes("--resume"), args.join(" "));
  });

  test("a run that was refused before anything started, where no retry can help: the server tries again, and a comment starts the task", async () => {
    const agent = await world.agent({}, { whenBusy: "never" });
    const { issue, run } = await world.done(agent);
    assert.deepEqual([run.status, run.errorCode], ["failed", "k8s_config_invalid"]);
    assert.deepEqual(run.resultJson?.executionRecovery, { kind: "bootstrap", providerWorkStarted: false });
    assert.equal(run.resultJson.conversationContinuation, "continue_conversation_v1");
    // The server cannot know that a retry does not help.
    const retry = await world.paperclip.nthRun(world.company, issue.id, 2);
    assert.deepEqual([retry.status, retry.contextSnapshot?.wakeReason], ["scheduled_retry", "transient_failure_retry"]);
    assert.equal((await world.paperclip.issue(issue.id)).status, "in_progress");
    await world.paperclip.patch(`agents/${agent.id}`, { adapterConfig: { whenBusy: "wait" } });
    await world.paperclip.comment(issue.id, "The field is corrected.");
    await world.reads(issue, "The field is corrected.");
  });
});

/** Sends a message to a chat, and returns the run that answers it, when the chat waits again. */
async function said(world: World, chat: Issue, body: string): Promise<Run> {
  await world.paperclip.post(`issues/${chat.id}/comments`, { body, clientRequestId: crypto.randomUUID() });
  // On a loaded machine the server starts a continuation before the run for the message.
  const run = await world.paperclip.ended((await world.reads(chat, body)).id);
  assert.equal(run.status, "succeeded", run.error ?? "");
  await until("the answer", 20_000, async () => {
    const [last] = (await world.paperclip.comments(chat.id)).sort((a, b) => b.createdAt.localeCompare(a.createdAt));
    return last?.authorAgentId !== null && last?.body.includes("The answer of the agent.") === true ? true : undefined;
  });
  await until("the chat waits", 20_000, async () => ((await world.paperclip.issue(chat.id)).status === "in_review" ? true : undefined));
  return run;
}
