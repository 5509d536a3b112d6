import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, test } from "node:test";

import { Away } from "../src/away.ts";
import type { JsonObject } from "../src/paperclip.ts";
import { PaperclipApi } from "../src/paperclip-api.ts";
import { type PendingRun, PendingRuns } from "../src/pending.ts";
import { json, refuse, ScriptedDaemon } from "./scripted-daemon.ts";
import { SUCCESS } from "./run.ts";

const RUN: PendingRun = { runId: "run-1", token: "the-token", agentId: "agent-1", companyId: "company-1", issueId: "issue-1", taskKey: "issue-1" };
const RESULT = { ...SUCCESS, summary: "All done.", costUsd: 0.123, provider: "anthropic", billingType: "api", model: "m", usage: { inputTokens: 5, outputTokens: 7, cachedInputTokens: 3 } };

/** The part of Paperclip's API that is used, with what it was sent. */
class Paperclip {
  state: JsonObject = { status: "failed", errorCode: "process_lost" };
  comments: { body: string }[] = [];
  costs: JsonObject[] = [];
  costStatus = 201;
  tokens = new Set<string | undefined>();
  private readonly server = http.createServer((request, response) => void this.answer(request, response));

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const body = text === "" ? {} : (JSON.parse(text) as JsonObject);
    this.tokens.add(request.headers.authorization);
    const reply = (status: number, answer: unknown): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
    };
    switch (`${request.method ?? ""} ${request.url ?? ""}`) {
      case "GET /api/heartbeat-runs/run-1":
        reply(200, this.state);
        break;
      case "GET /api/issues/issue-1/comments":
        reply(200, this.comments);
        break;
      case "POST /api/issues/issue-1/comments":
        this.comments.push(body as { body: string });
        reply(201, body);
        break;
      case "POST /api/companies/company-1/cost-events":
        if (this.costStatus === 201) this.costs.push(body);
        reply(this.costStatus, {});
        break;
      default:
        reply(404, {});
    }
  }
}

describe("what finished while the server was away", () => {
  let daemon: ScriptedDaemon;
  let paperclip: Paperclip;
  let pending: PendingRuns;
  let url: string;
  const active = new Set<string>();
  const away = (claimMs = 0): Away =>
    new Away(pending, () => client, () => new PaperclipApi(url), active, { intervalMs: 1_000_000, claimMs });
  let client: ReturnType<ScriptedDaemon["client"]>;
  const daemonHas = (info: JsonObject): void => {
    daemon.answers.set("GET /v1/runs/run-1", json({ runId: "run-1", state: "succeeded", nextSeq: 9, endedAt: "2026-11-30T01:02:03Z", ...info }));
  };

  beforeEach(async () => {
    daemon = await ScriptedDaemon.start();
    paperclip = new Paperclip();
    url = await paperclip.listen();
    client = daemon.client();
    pending = new PendingRuns(daemon.folder, "claude_k8s");
    active.clear();
    daemon.answers.set("POST /v1/runs/run-1/taken", json({}));
    await pending.save(RUN);
  });
  afterEach(async () => {
    paperclip.close();
    await daemon.remove();
  });

  test("is delivered by comment and cost with the run's token, and then marked as taken", async () => {
    daemonHas({ result: RESULT });
    await away().sweep();
    assert.equal(paperclip.comments.length, 1);
    assert.match(paperclip.comments[0]?.body ?? "", /finished while Paperclip's server was away\*\* \(run `run-1`\)\.\n\nAll done\./);
    assert.deepEqual(paperclip.costs, [
      {
        agentId: "agent-1",
        issueId: "issue-1",
        heartbeatRunId: "run-1",
        provider: "anthropic",
        biller: "anthropic",
        billingType: "metered_api",
        model: "m",
        inputTokens: 5,
        cachedInputTokens: 3,
        outputTokens: 7,
        costCents: 12,
        occurredAt: "2026-11-30T01:02:03.000Z",
      },
    ]);
    assert.deepEqual([...paperclip.tokens], ["Bearer the-token"]);
    assert.equal(daemon.asked("POST /v1/runs/run-1/taken").length, 1);
    assert.deepEqual(await pending.list(), []);
  });

  test("waits until a retry had time to claim it", async () => {
    daemonHas({ result: RESULT });
    const patient = away(1_000_000);
    await patient.sweep();
    await patient.sweep();
    assert.equal(paperclip.comments.length, 0);
    daemonHas({ result: RESULT, resumedBy: "run-2" });
    await patient.sweep();
    assert.equal(paperclip.comments.length, 0);
    assert.deepEqual(await pending.list(), [], "the run that claimed it delivers it");
  });

  test("waits for an agent that still works, and for a server that still believes in the run", async () => {
    daemonHas({ state: "running" });
    await away().sweep();
    daemonHas({ result: RESULT });
    paperclip.state = { status: "running" };
    await away().sweep();
    assert.equal((await pending.list()).length, 1);
    assert.equal(paperclip.comments.length, 0);
  });

  test("delivers each part once, whatever fails in between", async () => {
    daemonHas({ result: RESULT });
    paperclip.costStatus = 500;
    await away().sweep();
    await away().sweep();
    paperclip.costStatus = 201;
    await away().sweep();
    await pending.save(RUN);
    await away().sweep();
    assert.equal(paperclip.comments.length, 1, "a comment that exists is not written again");
  });

  test("what the server has stored is only marked as taken", async () => {
    daemonHas({ result: RESULT });
    paperclip.state = { status: "succeeded" };
    await away().sweep();
    assert.deepEqual([paperclip.comments.length, daemon.asked("POST /v1/runs/run-1/taken").length], [0, 1]);
    assert.deepEqual(await pending.list(), []);
  });

  test("a run that was never started is forgotten", async () => {
    daemon.answers.set("GET /v1/runs/run-1", refuse(404, "not_found", "no run run-1"));
    await away().sweep();
    assert.deepEqual(await pending.list(), []);
  });

  test("a cancel that the daemon did not accept is tried again", async () => {
    await pending.save({ ...RUN, cancel: "Cancelled by a board operator" });
    daemonHas({ state: "running" });
    daemon.answers.set("POST /v1/runs/run-1/cancel", refuse(503, "stopping", "stopping"));
    await away().sweep();
    assert.equal((await pending.list())[0]?.cancel, "Cancelled by a board operator");
    daemon.answers.set("POST /v1/runs/run-1/cancel", json({}, 202));
    await away().sweep();
    assert.equal((await pending.list())[0]?.cancel, undefined);
  });

  test("a run that is followed in this process is left alone", async () => {
    active.add("run-1");
    daemonHas({ result: RESULT });
    await away().sweep();
    assert.equal(paperclip.comments.length, 0);
  });

  test("without daemon or server everything waits", async () => {
    await daemon.kill();
    await away().sweep();
    paperclip.close();
    await away().sweep();
    assert.equal((await pending.list()).length, 1);
  });
});
