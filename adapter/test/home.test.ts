import assert from "node:assert/strict";
import { mkdtemp, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makeHome } from "../src/home.ts";

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), "home-"));

void test("makes the home of an agent once, and keeps what is in it", async () => {
  const data = await folder();
  const nova = { serverHome: data, companyId: "acme", agentId: "nova", workspace: join(data, "instances/default/workspaces/nova") };
  assert.equal(await makeHome(nova, data), undefined);
  assert.ok((await stat(nova.workspace)).isDirectory());
  const file = join(data, "agent-homes/acme/nova/session");
  await writeFile(file, "s");
  assert.equal(await makeHome(nova, data), undefined);
  assert.ok((await stat(file)).isFile());
});

void test("makes none where agents do not mount the server's home, nor for an id that is no folder's name", async () => {
  const data = await folder();
  for (const [serverHome, companyId, agentId] of [
    ["/elsewhere", "acme", "nova"],
    [undefined, "acme", "nova"],
    [data, "..", "nova"],
    [data, "acme", "a/b"],
    [data, "", "nova"],
  ] as const) {
    assert.equal(await makeHome({ serverHome, companyId, agentId, workspace: undefined }, data), undefined);
  }
  for (const workspace of [join(data, "instances/default/workspaces/other"), `${data}/instances/../../x/nova`, join(data, "x/nova"), "/nova"]) {
    assert.equal(await makeHome({ serverHome: data, companyId: "acme", agentId: "nova", workspace }, data), undefined);
  }
  await assert.rejects(stat(join(data, "instances")), { code: "ENOENT" });
  await assert.rejects(stat(join(data, "x")), { code: "ENOENT" });
});

void test("warns if it cannot be made", async () => {
  const data = await folder();
  await writeFile(join(data, "agent-homes"), "in the way");
  const nova = { serverHome: data, companyId: "acme", agentId: "nova", workspace: undefined };
  assert.match((await makeHome(nova, data)) ?? "", /agent-homes\/acme\/nova cannot be made/);
});
