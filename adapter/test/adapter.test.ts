import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";

import { createAdapter } from "../src/adapter.ts";
import { readAbort } from "../src/abort.ts";
import { cleanConfig } from "../src/environment.ts";
import type { EnvironmentReport, ExecutionResult, JsonObject, SkillSnapshot } from "../src/paperclip.ts";
import { checkResult } from "../src/result.ts";
import { DEFINITION, log, result, run, SUCCESS, services } from "./run.ts";
import { execute } from "../src/execute.ts";
import { json, refuse, ScriptedDaemon, stream } from "./scripted-daemon.ts";

interface Adapter {
  type: string;
  models: { id: string }[];
  agentConfigurationDoc: string;
  execute(context: unknown): Promise<ExecutionResult>;
  testEnvironment(context: unknown): Promise<EnvironmentReport>;
  getConfigSchema(): Promise<{ fields: { key: string }[] }>;
  listModels(): Promise<{ id: string; label: string }[]>;
  refreshModels(): Promise<{ id: string; label: string }[]>;
  detectModel(): Promise<null>;
  listSkills(context: unknown): Promise<SkillSnapshot>;
  syncSkills(context: unknown, desired: unknown): Promise<SkillSnapshot>;
  getQuotaWindows(): Promise<JsonObject>;
  sessionCodec: { deserialize: (raw: unknown) => unknown; serialize: (params: unknown) => unknown; getDisplayId: (params: unknown) => unknown };
  [name: string]: unknown;
}

const DESCRIPTION = {
  adapterType: "claude_k8s",
  models: [{ id: "m-1", label: "Model 1", provider: "direct" }],
  configSchema: { fields: [{ key: "image", label: "Image", type: "text" }] },
  capabilities: { supportsLocalAgentJwt: true, hasOutOfProcessLiveness: true },
  doc: "the doc",
};
const DESCRIBE = "GET /v1/adapters/claude_k8s";

describe("adapter", () => {
  let daemon: ScriptedDaemon;
  const create = (environment: Record<string, string> = {}): Adapter =>
    createAdapter(DEFINITION, { PAPERCLIP_HOME: daemon.home, ...environment }) as unknown as Adapter;
  beforeEach(async () => {
    daemon = await ScriptedDaemon.start();
  });
  afterEach(() => daemon.remove());

  test("describes the agent type as the daemon does, and adds its own field", async () => {
    daemon.answers.set(DESCRIBE, json(DESCRIPTION));
    const adapter = create();
    assert.deepEqual((await adapter.getConfigSchema()).fields.map((field) => field.key), ["image", "logFormat"]);
    assert.deepEqual(await adapter.listModels(), [{ id: "m-1", label: "Model 1" }]);
    assert.equal(daemon.asked(DESCRIBE).length, 1, "the server asks up to five times a run");
    await adapter.refreshModels();
    assert.equal(daemon.asked(DESCRIBE).length, 2);
  });

  test("without a daemon the last good description serves, also after a restart", async () => {
    daemon.answers.set(DESCRIBE, json(DESCRIPTION));
    await create().getConfigSchema();
    await daemon.kill();
    const adapter = create();
    assert.equal(adapter.agentConfigurationDoc, "the doc");
    assert.deepEqual([adapter.supportsLocalAgentJwt, adapter.hasOutOfProcessLiveness], [true, undefined]);
    assert.deepEqual(await adapter.listModels(), [{ id: "m-1", label: "Model 1" }]);
    await writeFile(join(daemon.folder, "description-claude_k8s.json"), "broken");
    assert.equal(create().agentConfigurationDoc, "built in");
  });

  test("an answer that describes nothing is not kept", async () => {
    daemon.answers.set(DESCRIBE, json({}));
    assert.deepEqual((await create().getConfigSchema()).fields.map((field) => field.key), ["logFormat"]);
    assert.deepEqual(await readdir(join(daemon.home, "instances")).catch(() => []), []);
  });

  test("loads whatever is missing, and says at each use what is wrong", async () => {
    for (const environment of [{ PAPERCLIP_HOST_URL: "nonsense" }, { PAPERCLIP_HOST_TOKEN_FILE: "/nowhere" }]) {
      const adapter = create(environment);
      const report = await adapter.testEnvironment({ config: {} });
      assert.equal(report.status, "fail");
      assert.equal(report.checks.length, 1);
      assert.match(`${report.checks[0]?.message ?? ""} ${report.checks[0]?.hint ?? ""}`, /PAPERCLIP_HOST/);
      const { context } = run();
      const failed = await adapter.execute(context);
      assert.match(failed.errorMessage ?? "", /PAPERCLIP_HOST.*To fix:/);
      assert.equal(failed.executionRecovery?.kind, "bootstrap");
      await adapter.getConfigSchema();
      await adapter.listModels();
      assert.equal(await adapter.detectModel(), null);
      assert.equal((await adapter.listSkills({ config: {} })).supported, true);
      assert.equal((await adapter.getQuotaWindows()).ok, false);
    }
  });

  test("the environment test has the daemon's checks, and no value of a variable leaves the server", async () => {
    const check = { code: "k8s_access", level: "error", message: "no pods", hint: "grant it" };
    daemon.answers.set("POST /v1/adapters/claude_k8s/check", json({ status: "fail", checks: [check] }));
    const report = await create().testEnvironment({ config: { image: "i", env: { KEY: "the value", TMPDIR: "/tmp/x" } } });
    assert.equal(report.status, "fail");
    assert.deepEqual(report.checks[1], check);
    const [asked] = daemon.asked("POST /v1/adapters/claude_k8s/check");
    assert.deepEqual(asked?.body, { config: { image: "i", env: { KEY: "" } } });
  });

  test("a token that the daemon refuses is one check that names the file to correct", async () => {
    daemon.answers.set("GET /v1/version", refuse(401, "unauthorized", "the bearer token is wrong"));
    const unset = await create().testEnvironment({ config: {} });
    assert.deepEqual(unset.checks.map((check) => check.code), ["unauthorized"]);
    assert.match(unset.checks[0]?.hint ?? "", /^set PAPERCLIP_HOST_TOKEN_FILE in the environment of Paperclip's server/);
    const tokenFile = join(daemon.home, "token");
    await writeFile(tokenFile, "not-the-token-0123456789");
    const wrong = await create({ PAPERCLIP_HOST_TOKEN_FILE: tokenFile }).testEnvironment({ config: {} });
    const hint = wrong.checks[0]?.hint ?? "";
    assert.ok(hint.includes(tokenFile) && hint.includes("PAPERCLIP_HOST_TOKEN_FILE"), hint);
    const { context } = run();
    const failed = await create({ PAPERCLIP_HOST_TOKEN_FILE: tokenFile }).execute(context);
    assert.match(failed.errorMessage ?? "", /bearer token is wrong.*PAPERCLIP_HOST_TOKEN_FILE/s);
    assert.ok(!JSON.stringify([wrong, failed]).includes("not-the-token"));
  });

  test("the pod that the server's environment names is named to the daemon", async () => {
    const pod = { name: "paperclip-0", namespace: "paperclip" };
    const environment = { PAPERCLIP_POD_NAME: pod.name, PAPERCLIP_POD_NAMESPACE: pod.namespace };
    daemon.answers.set("POST /v1/adapters/claude_k8s/check", json({ status: "pass", checks: [] }));
    daemon.answers.set("GET /v1/runs/run-1/events", stream([result(0)]));
    const adapter = create(environment);
    await adapter.testEnvironment({ config: {} });
    assert.deepEqual(daemon.asked("POST /v1/adapters/claude_k8s/check")[0]?.body, { config: {}, paperclipPod: pod });
    await adapter.execute(run().context);
    const sent = daemon.asked("POST /v1/runs")[0]?.body as { context: JsonObject };
    assert.deepEqual(sent.context.paperclipPod, pod);
  });

  test("a daemon that is down is one check with a hint", async () => {
    await daemon.kill();
    const report = await create().testEnvironment({ config: {} });
    assert.equal(report.status, "fail");
    assert.deepEqual(report.checks.map((check) => check.code), ["k8s_host_unreachable"]);
    assert.match(report.checks[0]?.hint ?? "", /start `paperclip-host serve`/);
  });

  test("skills are the daemon's answer, or made of the candidates", async () => {
    const config = {
      env: { KEY: "secret" },
      paperclipRuntimeSkills: [
        { key: "paperclipai/paperclip/paperclip", runtimeName: "paperclip", source: "/s/paperclip" },
        { key: "acme/review", runtimeName: "review", source: "/s/review" },
        { key: "acme/removed", runtimeName: "removed", sourceStatus: "missing", missingDetail: "Removed." },
      ],
      paperclipSkillSync: { desiredSkills: ["review", { key: "acme/removed" }, "acme/unknown"] },
    };
    daemon.answers.set("POST /v1/adapters/claude_k8s/skills", refuse(500, "internal", "broken"));
    const own = await create().listSkills({ config });
    assert.deepEqual(own.entries.map((entry) => entry.state), ["configured", "configured", "missing"]);
    assert.deepEqual(own.warnings, ["Skill acme/unknown is not available.", "broken. To fix: do something about it"]);
    daemon.answers.set("POST /v1/adapters/claude_k8s/skills", json({ adapterType: "x", entries: [], warnings: [] }));
    assert.equal((await create().syncSkills({ config }, ["acme/review"])).adapterType, "claude_k8s");
    const asked = daemon.asked("POST /v1/adapters/claude_k8s/skills").at(-1)?.body;
    assert.deepEqual(asked?.desired, ["acme/review"]);
    assert.ok(!JSON.stringify(asked).includes("secret"));
  });

  test("the token file is read at each request", async () => {
    const tokenFile = join(daemon.home, "token");
    const adapter = create({ PAPERCLIP_HOST_TOKEN_FILE: tokenFile });
    for (const token of ["first-token", "second-token"]) {
      await writeFile(tokenFile, `${token}\n`);
      await adapter.testEnvironment({ config: {} });
      assert.equal(daemon.requests.at(-1)?.headers.authorization, `Bearer ${token}`);
    }
  });

  test("sessions are read with former names, without what the server added", () => {
    const { deserialize, serialize, getDisplayId } = create().sessionCodec;
    const session = deserialize({ session_id: " s ", folder: "/w", __paperclipX: 1, more: 2 });
    assert.deepEqual(session, { sessionId: "s", cwd: "/w", more: 2 });
    assert.deepEqual(serialize(session), session);
    assert.equal(getDisplayId(session), "s");
    assert.deepEqual([deserialize(null), deserialize("s"), deserialize({})], [null, null, null]);
  });

  test("instructions and skills travel with the run", async () => {
    const root = join(daemon.home, "instructions");
    await mkdir(root, { recursive: true });
    await writeFile(join(root, "AGENTS.md"), "Be kind.");
    daemon.features = ["files"];
    daemon.answers.set("GET /v1/runs/run-1/events", stream([result(0)]));
    const { context } = run({ config: { env: {}, instructionsFilePath: join(root, "AGENTS.md") } });
    await execute(context, services(daemon));
    const body = daemon.asked("POST /v1/runs")[0]?.body;
    assert.deepEqual(body?.files, [{ path: "instructions/AGENTS.md", text: "Be kind." }]);
    assert.equal(body.instructionsEntry, "AGENTS.md");
  });

  test("the override shows the agent's own lines, and names fields without a meaning", async () => {
    daemon.answers.set("GET /v1/runs/run-1/events", stream([log(0, '{"type":"x"}', ["x"]), result(1)]));
    const config = { env: {}, command: "/opt/claude", chrome: false };
    const { context, recorded } = run({ config, agent: { id: "a", companyId: "c", adapterConfig: { command: "/opt/claude", chrome: false } } });
    const definition = { ...DEFINITION, type: "claude_local", isRenderedByServer: true, ignoredFields: ["command", "chrome"] };
    await execute(context, services(daemon, {}, definition));
    assert.equal(recorded.stdout(), '{"type":"x"}\n');
    assert.equal(daemon.asked("GET /v1/runs/run-1/events")[0]?.query.has("text"), false, "its own lines are shown");
    assert.equal(recorded.progress.length, 1);
    assert.match(recorded.progress[0] ?? "", /The field command/);
    const sent = daemon.asked("POST /v1/runs")[0]?.body as { context: { config: JsonObject } };
    assert.deepEqual(sent.context.config, { env: {} });
    assert.ok("command" in config, "the server's own object is not changed");
  });
});

test("variables of the server's machine are removed unless the agent's config names them", () => {
  const env = { TMPDIR: "/server", GH_CONFIG_DIR: "/mine", PAPERCLIP_GITHUB_HOST_HOME: "/root", KEY: "k" };
  const cleaned = cleanConfig({ image: "i", env }, { env: { GH_CONFIG_DIR: { type: "plain", value: "/mine" } } });
  assert.deepEqual(cleaned, { image: "i", env: { GH_CONFIG_DIR: "/mine", KEY: "k" } });
});

test("only a server that stops detaches; every other reason cancels", () => {
  for (const [reason, kind] of [
    ["Cancelled by a board operator", "cancel"],
    ["Cancelled by control plane", "cancel"],
    ["Cancelled before issue reassignment", "cancel"],
    ["Cancelled due to agent pause", "cancel"],
    ["Cancelled due to budget pause", "cancel"],
    ["Run stopped before provider startup", "cancel"],
    ["something new", "cancel"],
    ["Legacy controller lease lost", "detach"],
  ] as const) {
    assert.deepEqual(readAbort(AbortSignal.abort(new Error(reason))), { kind, reason });
    assert.equal(readAbort(AbortSignal.abort(reason)).kind, kind);
  }
});

test("a result keeps what it has, without NUL", () => {
  assert.deepEqual(checkResult({ ...SUCCESS, summary: "a\0b", resultJson: { list: ["\0"] }, more: 1 }), {
    ...SUCCESS,
    summary: "a␀b",
    resultJson: { list: ["␀"] },
    more: 1,
  });
  for (const broken of [{ exitCode: 1.5 }, { exitCode: 0, summary: 1 }, { exitCode: 0, resultJson: [] }, { exitCode: null, timedOut: true }]) {
    assert.equal(typeof checkResult(broken), "string", JSON.stringify(broken));
  }
});
