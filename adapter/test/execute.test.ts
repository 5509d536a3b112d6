import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";

import { execute } from "../src/execute.ts";
import { PaperclipApi, type ServerView } from "../src/paperclip-api.ts";
import { PendingRuns } from "../src/pending.ts";
import { log, result, run, services, SUCCESS, until } from "./run.ts";
import { inOrder, json, refuse, ScriptedDaemon, stream } from "./scripted-daemon.ts";

const EVENTS = "GET /v1/runs/run-1/events";

describe("execute", () => {
  let daemon: ScriptedDaemon;
  beforeEach(async () => {
    daemon = await ScriptedDaemon.start();
  });
  afterEach(() => daemon.remove());

  test("starts the run, delivers its records in order, and returns its result", async () => {
    daemon.answers.set(
      EVENTS,
      stream([
        { seq: 0, type: "status", level: "info", text: "Job created" },
        { seq: 1, type: "meta", command: "claude", adapterType: "other" },
        log(2, "{}", ["one", "two"]),
        log(3, "{}", []),
        { seq: 4, type: "gap", index: 5, lostLines: 7, lostBytes: null, reason: "rotated" },
        { seq: 5, type: "of the future" },
        result(6),
      ]),
    );
    const servers = [{ name: "Paperclip projects", url: "http://p/mcp", token: "t", connectionId: "c" }];
    const { context, recorded } = run({ runtimeMcp: { getServers: () => servers } });
    assert.deepEqual(await execute(context, services(daemon)), SUCCESS);
    assert.deepEqual(recorded.log, [
      "system: Job created\n",
      "stdout: one\ntwo\n",
      "system: 7 lines of output could not be read: rotated\n",
    ]);
    assert.deepEqual(recorded.progress, ["Job created"]);
    assert.deepEqual(recorded.meta, [{ command: "claude", adapterType: "claude_k8s" }]);
    assert.equal(recorded.events[0]?.eventType, "kubernetes.log_gap");
    assert.deepEqual([recorded.ready, recorded.dispatched], [1, 1]);
    const [started] = daemon.asked("POST /v1/runs");
    assert.equal(started?.body.adapter, "claude_k8s");
    assert.equal(started.body.pushesCancel, true);
    assert.deepEqual(started.body.mcpServers, servers);
    assert.equal(daemon.asked(EVENTS)[0]?.query.get("text"), "true");
  });

  test("a daemon that is older than the handshake gets nothing that it does not know", async () => {
    daemon.features = undefined;
    daemon.answers.set(EVENTS, stream([log(0, "a line"), result(1)]));
    const { context, recorded } = run({
      config: { env: {}, instructionsFilePath: "/nowhere/AGENTS.md" },
      runtimeMcp: { getServers: () => [{ name: "n", url: "u", token: "t", connectionId: "c" }] },
    });
    assert.equal((await execute(context, services(daemon))).exitCode, 0);
    assert.deepEqual(Object.keys(daemon.asked("POST /v1/runs")[0]?.body ?? {}), ["adapter", "context"]);
    assert.equal(daemon.asked(EVENTS)[0]?.query.has("text"), false);
    assert.equal(recorded.stdout(), "rendered here: a line\n");
  });

  test("continues at the next record after each cut, without losing or repeating a line", async () => {
    const lines = Array.from({ length: 50 }, (_, index) => log(index, "", [`line ${index}`]));
    const all = [...lines, result(50)];
    daemon.answers.set(
      EVENTS,
      inOrder(stream(all.slice(0, 10), "cut"), stream(all.slice(0, 11), "end"), refuse(503, "stopping", "stopping"), stream(all)),
    );
    const { context, recorded } = run();
    assert.equal((await execute(context, services(daemon))).exitCode, 0);
    assert.equal(recorded.stdout(), lines.map((_, index) => `line ${index}\n`).join(""));
    assert.deepEqual(daemon.asked(EVENTS).map((request) => request.query.get("from")), ["0", "10", "11", "11"]);
  });

  test("continues after its cursor where another host has adopted the run, whose numbers start again", async () => {
    const at = (record: Record<string, unknown>, cursor: string): Record<string, unknown> => ({ ...record, cursor });
    daemon.answers.set(
      EVENTS,
      inOrder(
        stream([at(log(0, "", ["one"]), "a0"), at(log(1, "", ["two"]), "a1")], "cut"),
        stream([at(log(1, "", ["three"]), "b1")], "cut"),
        stream([{ seq: 0, type: "reset", reason: "rotated" }, at(log(0, "", ["four"]), "c0"), at(result(1), "c1")]),
      ),
    );
    const { context, recorded } = run();
    assert.equal((await execute(context, services(daemon))).exitCode, 0);
    assert.equal(recorded.stdout(), "one\ntwo\nthree\nfour\n");
    assert.deepEqual(daemon.asked(EVENTS).map(({ query }) => query.get("cursor") ?? query.get("from")), ["0", "a1", "b1"]);
    assert.ok(recorded.events.some((event) => event.eventType === "kubernetes.log_reset"));
  });

  test("follows on when the daemon was killed and starts again", async () => {
    daemon.answers.set(EVENTS, stream([log(0, "", ["before"])], "wait"));
    const { context, recorded } = run();
    const ended = execute(context, services(daemon));
    await until(() => recorded.stdout() !== "", "the first line");
    await daemon.kill();
    daemon.answers.set(EVENTS, stream([log(0, "", ["before"]), log(1, "", ["after"]), result(2)]));
    await until(() => recorded.progress.some((line) => line.startsWith("Reconnecting")), "a status");
    await daemon.listen();
    assert.equal((await ended).exitCode, 0);
    assert.equal(recorded.stdout(), "before\nafter\n");
    assert.equal(recorded.progress.at(-1), "paperclip-host answers again");
  });

  test("waits for a daemon that is not there yet", async () => {
    await daemon.kill();
    daemon.answers.set(EVENTS, stream([result(0)]));
    const { context, recorded } = run();
    const ended = execute(context, services(daemon));
    await until(() => recorded.progress.some((line) => line.startsWith("Waiting for paperclip-host")), "a status");
    await daemon.listen();
    assert.equal((await ended).exitCode, 0);
    assert.equal(recorded.dispatched, 1);
  });

  test("a daemon that never comes fails the run with a hint, and the task can be started again", async () => {
    await daemon.kill();
    const { context } = run();
    const failed = await execute(context, services(daemon, { startMs: 50 }));
    assert.equal(failed.errorCode, "k8s_host_unreachable");
    assert.match(failed.errorMessage ?? "", /does not answer at unix:.*To fix: start `paperclip-host serve`/);
    assert.deepEqual(failed.executionRecovery, { kind: "bootstrap", providerWorkStarted: false });
    assert.equal(failed.errorFamily, "transient_upstream");
    assert.equal(failed.resultJson?.conversationContinuation, "continue_conversation_v1");
  });

  test("repeats a start that is refused for the moment, as late as the answer says", async () => {
    const times: number[] = [];
    const refused = refuse(503, "queue_full", "full", { "retry-after": "0.2" });
    daemon.answers.set("POST /v1/runs", (request, response) => {
      times.push(performance.now());
      return (times.length === 1 ? refused : json({ runId: "run-1" }, 202))(request, response);
    });
    daemon.answers.set(EVENTS, stream([result(0)]));
    const { context } = run();
    assert.equal((await execute(context, services(daemon))).exitCode, 0);
    const [first = 0, second = 0] = times;
    assert.ok(second - first >= 195, `${second - first} ms`);
  });

  test("a refusal that no repetition helps is the run's error", async () => {
    daemon.answers.set("POST /v1/runs", refuse(422, "no_plugin", "no plugin serves claude_k8s"));
    const { context } = run();
    const failed = await execute(context, services(daemon));
    assert.equal(failed.errorCode, "no_plugin");
    assert.equal(failed.errorMessage, "no plugin serves claude_k8s. To fix: do something about it");
    assert.equal(failed.errorFamily, undefined);
    assert.equal(failed.executionRecovery?.kind, "bootstrap");
    assert.deepEqual(await new PendingRuns(daemon.folder, "claude_k8s").list(), []);
  });

  test("a daemon of another version of the API is named with both versions", async () => {
    daemon.api = "2.1";
    const { context } = run();
    const failed = await execute(context, services(daemon));
    assert.equal(failed.errorCode, "k8s_host_incompatible");
    assert.match(failed.errorMessage ?? "", /paperclip-host 0\.2\.0 .* speaks version 2\.1 of its API, this adapter version 1/);
    assert.equal(failed.errorFamily, "transient_upstream");
  });

  test("a remote execution target is refused", async () => {
    const { context } = run({ executionTarget: { kind: "remote", transport: "sandbox" } });
    const failed = await execute(context, services(daemon));
    assert.equal(failed.errorCode, "k8s_execution_target_unsupported");
    assert.deepEqual(daemon.requests, []);
  });

  test("a daemon that restarts before the agent printed something gets the request again, and never later", async () => {
    const status = { seq: 0, type: "status", level: "info", text: "Waiting for its turn" };
    daemon.answers.set(EVENTS, inOrder(stream([status]), refuse(404, "not_found", "no run"), stream([status, log(1, "", ["a"])]), stream([log(1, ""), result(2)])));
    const { context } = run();
    assert.equal((await execute(context, services(daemon))).exitCode, 0);
    const requests = daemon.requests.map(({ method, path }) => `${method} ${path}`).filter((what) => what === EVENTS || what === "POST /v1/runs");
    assert.deepEqual(requests, ["POST /v1/runs", EVENTS, "POST /v1/runs", EVENTS, "POST /v1/runs", EVENTS, EVENTS]);
    const bodies = daemon.asked("POST /v1/runs").map(({ body }) => body);
    assert.deepEqual(bodies[1], bodies[0]);
  });

  test("a run that the daemon has lost ends with that error", async () => {
    daemon.answers.set(EVENTS, refuse(404, "not_found", "no run run-1"));
    const { context } = run();
    const failed = await execute(context, services(daemon));
    assert.equal(failed.errorCode, "k8s_run_lost");
    assert.equal(failed.executionRecovery, undefined);
  });

  test("a cancel is repeated until the daemon accepts it, and the result is the daemon's", async () => {
    const acknowledged = {
      ...SUCCESS,
      exitCode: null,
      errorCode: "cancelled",
      errorMessage: "Run cancelled",
      resultJson: { executionCancellation: { state: "acknowledged", acknowledgedAt: "2026-11-30T00:00:00Z" } },
    };
    daemon.answers.set(EVENTS, stream([log(0, "", ["a"])], "wait"));
    daemon.answers.set(
      "POST /v1/runs/run-1/cancel",
      inOrder(refuse(503, "stopping", "stopping"), (request, response) => {
        daemon.answers.set(EVENTS, stream([log(0, "", ["a"]), result(1, acknowledged)]));
        json({}, 202)(request, response);
        setTimeout(() => void daemon.kill().then(() => daemon.listen()), 5);
      }),
    );
    const { context, recorded, abort } = run();
    const ended = execute(context, services(daemon));
    await until(() => recorded.stdout() !== "", "the first line");
    abort.abort(new Error("Cancelled by a board operator"));
    assert.deepEqual(await ended, acknowledged);
    assert.deepEqual(daemon.asked("POST /v1/runs/run-1/cancel")[1]?.body, { reason: "Cancelled by a board operator" });
  });

  test("a cancel that is not confirmed in time is not claimed, and is tried further", async () => {
    daemon.answers.set(EVENTS, stream([log(0, "", ["a"])], "wait"));
    daemon.answers.set("POST /v1/runs/run-1/cancel", refuse(503, "stopping", "stopping"));
    const { context, recorded, abort } = run();
    const ended = execute(context, services(daemon, { cancelMs: 60 }));
    await until(() => recorded.stdout() !== "", "the first line");
    abort.abort(new Error("Cancelled by control plane"));
    const cancelled = await ended;
    assert.equal(cancelled.errorCode, "cancelled");
    assert.deepEqual(cancelled.resultJson, {});
    const [kept] = await new PendingRuns(daemon.folder, "claude_k8s").list();
    assert.equal(kept?.cancel, "Cancelled by control plane");
  });

  test("a server that stops leaves the agent alone", async () => {
    daemon.answers.set(EVENTS, stream([log(0, "", ["a"])], "wait"));
    const { context, recorded, abort } = run();
    const ended = execute(context, services(daemon));
    await until(() => recorded.stdout() !== "", "the first line");
    abort.abort(new Error("Legacy controller lease lost"));
    assert.match((await ended).errorMessage ?? "", /the agent continues/);
    assert.deepEqual(daemon.asked("POST /v1/runs/run-1/cancel"), []);
    assert.equal((await new PendingRuns(daemon.folder, "claude_k8s").list()).length, 1);
  });

  test("a run that is cancelled before its start is not started", async () => {
    const { context, abort } = run();
    abort.abort(new Error("Run stopped before provider startup"));
    const cancelled = await execute(context, services(daemon));
    assert.equal((cancelled.resultJson?.executionCancellation as { state: string }).state, "acknowledged");
    assert.deepEqual(daemon.requests, []);
  });

  test("keeps run and token for this user alone until the result is stored", async () => {
    daemon.answers.set(EVENTS, stream([log(0, "", ["a"])], "wait"));
    const { context, recorded } = run();
    const parts = services(daemon);
    parts.paperclip = () => seeing("stored");
    const ended = execute(context, parts);
    await until(() => recorded.stdout() !== "", "the first line");
    const path = join(daemon.folder, "pending", "claude_k8s", "run-1.json");
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    daemon.answers.set(EVENTS, stream([result(1)]));
    await daemon.kill();
    await daemon.listen();
    assert.equal((await ended).exitCode, 0);
    await until(async () => (await parts.pending().list()).length === 0, "the run is forgotten");
    assert.equal(daemon.asked("POST /v1/runs/run-1/taken").length, 1);
  });

  test("a result that the server has not stored stays pending", async () => {
    daemon.answers.set(EVENTS, stream([result(0)]));
    const { context } = run();
    const parts = services(daemon);
    parts.paperclip = () => seeing("lost");
    await execute(context, parts);
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.deepEqual(daemon.asked("POST /v1/runs/run-1/taken"), []);
    assert.equal((await parts.pending().list()).length, 1);
  });

  test("a retry of a run that the server lost claims its work", async () => {
    daemon.answers.set("GET /v1/runs/run-2/events", stream([result(0)]));
    const parts = services(daemon);
    parts.paperclip = () => seeing("lost");
    const kept = { token: "t", agentId: "agent-1", companyId: "company-1" };
    await parts.pending().save({ ...kept, runId: "run-0", taskKey: "issue-1" });
    await parts.pending().save({ ...kept, runId: "run-1", taskKey: "another" });
    await parts.pending().save({ ...kept, runId: "run-9", taskKey: "another" });
    const { context } = run({ runId: "run-2", context: { issueId: "issue-1", retryOfRunId: "run-1" } });
    await execute(context, parts);
    assert.equal(daemon.asked("POST /v1/runs")[0]?.body.resumes, "run-1");
    const left = (await parts.pending().list()).map((pending) => pending.runId);
    assert.ok(left.includes("run-0") && !left.includes("run-1"), left.join());
  });

  test("a stored result is not claimed a second time by the next run of the task", async () => {
    daemon.answers.set("GET /v1/runs/run-2/events", stream([result(0)]));
    const parts = services(daemon);
    parts.paperclip = () => seeing("stored");
    await parts.pending().save({ runId: "run-1", token: "t", agentId: "agent-1", companyId: "company-1", taskKey: "issue-1" });
    const { context } = run({ runId: "run-2" });
    await execute(context, parts);
    assert.equal(daemon.asked("POST /v1/runs")[0]?.body.resumes, undefined);
  });

  test("a result that is not one is an error, not a success", async () => {
    for (const broken of [{}, { exitCode: "0" }, { exitCode: 1, signal: null, timedOut: false }]) {
      daemon.answers.set(EVENTS, stream([result(0, broken)]));
      const { context } = run();
      assert.equal((await execute(context, services(daemon))).errorCode, "k8s_bad_result", JSON.stringify(broken));
    }
  });

  test("output that the server does not take at once is tried again, and then reported as lost", async () => {
    daemon.answers.set(EVENTS, stream([log(0, "", ["a"]), result(1)]));
    let calls = 0;
    const { context, recorded } = run({
      onLog: () => {
        calls += 1;
        return Promise.reject(new Error("the database is away"));
      },
    });
    assert.equal((await execute(context, services(daemon))).exitCode, 0);
    assert.equal(calls, 2);
    assert.match(recorded.events[0]?.message ?? "", /did not take a piece of output .*the database is away/);
  });

  test("a connection that delivers nothing although there is output is replaced", async () => {
    daemon.answers.set("GET /v1/runs/run-1", json({ runId: "run-1", state: "running", nextSeq: 3 }));
    daemon.answers.set(EVENTS, inOrder(stream([log(0, "", ["a"])], "wait"), stream([log(0, "", ["a"]), log(1, "", ["b"]), result(2)])));
    const { context, recorded } = run();
    assert.equal((await execute(context, services(daemon, { quietMs: 40 }))).exitCode, 0);
    assert.equal(recorded.stdout(), "a\nb\n");
  });
});

function seeing(view: ServerView): PaperclipApi {
  const api = new PaperclipApi("http://127.0.0.1:9");
  api.view = () => Promise.resolve(view);
  return api;
}
