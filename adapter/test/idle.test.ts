/** An agent may print nothing for as long as it likes: the connection that follows its run stays. */

import assert from "node:assert/strict";
import type http from "node:http";
import { afterEach, beforeEach, describe, mock, test } from "node:test";

import { execute, EXECUTE_TIMING } from "../src/execute.ts";
import { log, result, run, services } from "./run.ts";
import { json, ScriptedDaemon } from "./scripted-daemon.ts";

const EVENTS = "GET /v1/runs/run-1/events";
const RUN = "GET /v1/runs/run-1";
const MINUTES = 10;
const STEP_MS = 30_000;

describe("a run without output", () => {
  let daemon: ScriptedDaemon;
  beforeEach(async () => {
    daemon = await ScriptedDaemon.start();
  });
  afterEach(async () => {
    mock.timers.reset();
    mock.restoreAll();
    await daemon.remove();
  });

  for (const transport of ["a Unix socket", "TCP"]) {
    test(`keeps its connection over ${transport} for ${MINUTES} minutes`, async () => {
      if (transport === "TCP") await daemon.listenOnTcp();
      let stream: http.ServerResponse | undefined;
      daemon.answers.set(RUN, json({ runId: "run-1", state: "running", nextSeq: 1 }));
      daemon.answers.set(EVENTS, (_, response) => {
        stream = response.writeHead(200, { "content-type": "application/x-ndjson" });
        stream.write(line(log(0, "", ["first"])));
      });
      let now = performance.now();
      mock.method(performance, "now", () => now);
      mock.timers.enable({ apis: ["setInterval"] });
      const { context, recorded } = run();
      const executed = execute(context, services(daemon, EXECUTE_TIMING));
      await turns(() => recorded.stdout() === "first\n");
      for (let passed = 0; passed < MINUTES * 60_000; passed += STEP_MS) {
        now += STEP_MS;
        mock.timers.tick(STEP_MS);
        // What the timers have started reaches the daemon, and is answered.
        const until = daemon.requests.length + 1;
        for (let turn = 0; turn < 50 && daemon.requests.length < until; turn += 1) await nextTurn();
      }
      stream?.end([log(1, "", ["last"]), result(2)].map(line).join(""));
      assert.equal((await executed).exitCode, 0);
      assert.equal(recorded.stdout(), "first\nlast\n");
      assert.equal(daemon.asked(EVENTS).length, 1, "it connected again");
      // Each minute the daemon is asked whether it has something that does not arrive.
      assert.ok(daemon.asked(RUN).length > 0);
    });
  }
});

function line(record: unknown): string {
  return `${JSON.stringify(record)}\n`;
}

/** Lets the event loop turn until something holds. */
async function turns(holds: () => boolean): Promise<void> {
  for (let turn = 0; !holds(); turn += 1) {
    assert.ok(turn < 20_000, "it never came");
    await nextTurn();
  }
}

async function nextTurn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
