import assert from "node:assert/strict";
import { mkdtemp, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { makeHome } from "../src/home.ts";

const folder = (): Promise<string> => mkdtemp(join(tmpdir(), "home-"));

void test("makes the home of an agent once, and keeps what is in it", async () => {
  const data = await folder();
  assert.equal(await makeHome(data, "acme", "nova", data), undefined);
  const file = join(data, "agent-homes/acme/nova/session");
  await writeFile(file, "s");
  assert.equal(await makeHome(data, "acme", "nova", data), undefined);
  assert.ok((await stat(file)).isFile());
});

void test("makes none where agents do not mount the server's home, nor for an id that is no folder's name", async () => {
  const data = await folder();
  for (const [home, company, agent] of [
    ["/elsewhere", "acme", "nova"],
    [undefined, "acme", "nova"],
    [data, "..", "nova"],
    [data, "acme", "a/b"],
    [data, "", "nova"],
  ] as const) {
    assert.equal(await makeHome(home, company, agent, data), undefined);
  }
  await assert.rejects(stat(join(data, "agent-homes")), { code: "ENOENT" });
});

void test("warns if it cannot be made", async () => {
  const data = await folder();
  await writeFile(join(data, "agent-homes"), "in the way");
  assert.match((await makeHome(data, "acme", "nova", data)) ?? "", /agent-homes\/acme\/nova cannot be made/);
});
