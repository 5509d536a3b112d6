import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";

import { FileCollector } from "../src/files.ts";
import type { SkillEntry } from "../src/paperclip.ts";

const skill = (sourcePath: string, more: Partial<SkillEntry> = {}): SkillEntry => ({
  key: "acme/review",
  runtimeName: "review",
  desired: true,
  managed: true,
  state: "configured",
  sourcePath,
  ...more,
});

describe("files", () => {
  let home: string;
  let collector: FileCollector;
  const paths = (): string[] => collector.collected.files.map((file) => file.path);
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), "files-"));
    await mkdir(join(home, "agent/more"), { recursive: true });
    await writeFile(join(home, "agent/AGENTS.md"), "Be kind. See HEARTBEAT.md");
    await writeFile(join(home, "agent/HEARTBEAT.md"), "ä");
    await writeFile(join(home, "agent/more/logo.png"), Buffer.from([0x89, 0xff]));
    collector = new FileCollector();
  });
  afterEach(() => rm(home, { recursive: true, force: true }));

  const instructions = (file: string, more: Record<string, unknown> = {}): Promise<void> =>
    collector.addInstructions({ instructionsFilePath: join(home, file), ...more }, home);

  test("the folder of the instructions comes with the entry's siblings", async () => {
    await instructions("agent/AGENTS.md", { instructionsRootPath: join(home, "agent"), instructionsEntryFile: "AGENTS.md" });
    assert.deepEqual(paths(), ["instructions/AGENTS.md", "instructions/HEARTBEAT.md", "instructions/more/logo.png"]);
    assert.equal(collector.collected.instructionsEntry, "AGENTS.md");
    assert.equal(collector.collected.files[1]?.text, "ä");
    assert.equal(collector.collected.files[2]?.base64, "if8=");
    assert.deepEqual(collector.collected.warnings, []);
  });

  test("a program of a skill stays one", async () => {
    await writeFile(join(home, "agent/run.sh"), "#!/bin/sh\n");
    await chmod(join(home, "agent/run.sh"), 0o700);
    await collector.addSkills([skill(join(home, "agent"))]);
    const file = collector.collected.files.find(({ path }) => path === "skills/review/run.sh");
    assert.equal(file?.mode, 0o755);
  });

  test("links are followed inside the folder, and none leads out of it", async () => {
    const outside = await mkdtemp(join(tmpdir(), "outside-"));
    try {
      await writeFile(join(outside, "secret"), "the secret");
      await symlink("AGENTS.md", join(home, "agent/inside.md"));
      await symlink(join(outside, "secret"), join(home, "agent/leak"));
      await symlink(outside, join(home, "agent/leaks"));
      await symlink("../..", join(home, "agent/more/up"));
      await symlink(".", join(home, "agent/more/self"));
      await collector.addSkills([skill(join(home, "agent"))]);
      assert.ok(paths().includes("skills/review/inside.md"));
      assert.ok(!JSON.stringify(collector.collected.files).includes("the secret"));
      assert.equal(collector.collected.warnings.length, 4, collector.collected.warnings.join("\n"));
      assert.match(collector.collected.warnings.join("\n"), /leak: it is outside its folder/);
      assert.match(collector.collected.warnings.join("\n"), /self: it leads back to a folder above it/);
    } finally {
      await rm(outside, { recursive: true });
    }
  });

  test("instructions outside Paperclip's home are not read", async () => {
    await collector.addInstructions({ instructionsFilePath: "/etc/hostname" }, home);
    await collector.addInstructions({ instructionsFilePath: join(home, "agent/AGENTS.md"), instructionsEntryFile: "../x" }, home);
    assert.deepEqual(paths(), []);
    assert.match(collector.collected.warnings[0] ?? "", /outside Paperclip's home folder .*; the agent runs without it/);
    assert.match(collector.collected.warnings[1] ?? "", /entry file \.\.\/x is outside/);
  });

  test("a pipe is not waited for", async () => {
    execFileSync("mkfifo", [join(home, "agent/pipe")]);
    await collector.addSkills([skill(join(home, "agent"))]);
    assert.match(collector.collected.warnings.join(), /pipe: it is not a file/);
  });

  test("only configured skills are read, and a missing one is named", async () => {
    await collector.addSkills([
      skill(join(home, "agent"), { state: "available" }),
      skill("", { state: "missing", detail: "Removed." }),
      skill(join(home, "nowhere")),
      skill(join(home, "agent"), { runtimeName: "../x" }),
    ]);
    assert.deepEqual(paths(), []);
    assert.deepEqual(collector.collected.warnings.length, 3);
    assert.match(collector.collected.warnings[0] ?? "", /acme\/review: Removed\./);
  });
});
