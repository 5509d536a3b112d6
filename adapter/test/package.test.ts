/** The packages as npm and Paperclip's server see them; `npm run build` makes them. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import vm from "node:vm";

import type { Entry, ParseLine } from "../ui/entries.ts";
import { readable } from "../ui/entries.ts";
import { PACKAGES } from "../packages.ts";

const ROOT = join(import.meta.dirname, "..");
const RECORDINGS = join(ROOT, "../tests/fixtures");

for (const spec of PACKAGES) {
  const folder = join(ROOT, "dist", spec.type);

  describe(spec.name, () => {
    test("has these files and no dependency", () => {
      const packed = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: folder, encoding: "utf8" })) as [
        { files: { path: string }[]; unpackedSize: number },
      ];
      const names = packed[0].files.map((file) => file.path).sort();
      assert.deepEqual(names, ["LICENSE", "README.md", "index.js", "package.json", "ui-parser.cjs"]);
      const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Record<string, unknown>;
      assert.deepEqual(
        ["dependencies", "peerDependencies", "optionalDependencies", "scripts"].filter((name) => name in manifest),
        [],
      );
      assert.deepEqual(manifest.paperclip, { adapterUiParser: "1.0.0" });
    });

    test("the entry is one file that imports only what Node has", () => {
      const source = readFileSync(join(folder, "index.js"), "utf8");
      const imported = [...source.matchAll(/^import .* from "([^"]+)";$/gm)].map(([, name]) => name);
      assert.ok(imported.length > 0);
      assert.deepEqual(imported.filter((name) => !name?.startsWith("node:")), []);
    });

    test("loads and creates its adapter in a process that has nothing", () => {
      const script = `
        const { createServerAdapter } = await import(${JSON.stringify(pathToFileURL(join(folder, "index.js")).href)});
        const adapter = createServerAdapter();
        const again = createServerAdapter();
        const schema = await adapter.getConfigSchema();
        const report = await adapter.testEnvironment({ config: {} });
        console.log(JSON.stringify({ type: adapter.type, again: again.type, fields: schema.fields.length, status: report.status }));
      `;
      const env = { PAPERCLIP_HOME: "/nowhere/at/all", PATH: "" };
      const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", script], { env, encoding: "utf8" });
      const { fields, ...rest } = JSON.parse(printed) as { fields: number };
      assert.deepEqual(rest, { type: spec.type, again: spec.type, status: "fail" });
      assert.ok(fields > 10, "the form comes from the copy in the package");
    });

    test("the parser is CommonJS, and runs where nothing but the language exists", () => {
      const parse = loadParser(folder);
      assert.deepEqual(fromContext(parse("plain", "t")), [{ kind: "stdout", ts: "t", text: "plain" }]);
    });

    test("the readme is complete", () => {
      const text = readFileSync(join(folder, "README.md"), "utf8");
      assert.ok(text.startsWith(`# ${spec.name}\n`) && !text.includes("{{"));
    });
  });
}

describe("the parsers of the other agents", () => {
  for (const [type, recorded] of [
    ["codex_k8s", "codex-0.171.0"],
    ["gemini_k8s", "gemini-0.61.0"],
    ["opencode_k8s", "opencode-1.18.33"],
  ] as const) {
    test(`${type} reads every line of every recording`, () => {
      const parse = loadParser(join(ROOT, "dist", type));
      const folder = join(RECORDINGS, "agents", recorded);
      const files = readdirSync(folder).filter((file) => file.endsWith(".ndjson"));
      for (const file of files) {
        for (const line of readFileSync(join(folder, file), "utf8").split("\n")) {
          const entries = parse(line, "t");
          assert.equal(entries.length > 0, line.trim() !== "", line.slice(0, 200));
          assert.ok(entries.every((entry) => entry.kind !== "stdout") || file.startsWith("bigtool"), `${file}: ${line.slice(0, 200)}`);
        }
      }
      assert.ok(files.length > 20);
    });
  }
});

describe("the parser of Claude Code", () => {
  const parse = loadParser(join(ROOT, "dist/claude_k8s"));
  const recordings = readdirSync(RECORDINGS)
    .filter((name) => name.startsWith("claude-cli-"))
    .flatMap((name) => readdirSync(join(RECORDINGS, name)).map((file) => join(RECORDINGS, name, file)))
    .filter((path) => path.endsWith(".ndjson"));

  test("reads every line of every recording", () => {
    let lines = 0;
    for (const recording of recordings) {
      for (const line of readFileSync(recording, "utf8").split("\n")) {
        const entries = parse(line, "t");
        assert.equal(entries.length > 0, line.trim() !== "", line.slice(0, 200));
        for (const entry of entries) {
          assert.ok(readable(entry).every((text) => !text.includes("\n")));
        }
        lines += 1;
      }
    }
    assert.ok(recordings.length > 20 && lines > 200);
  });

  test("shows what the agent says and does", () => {
    const event = (value: unknown): unknown => fromContext(parse(JSON.stringify(value), "t"));
    const blocks = [
      { type: "thinking", thinking: "hm" },
      { type: "text", text: "hi" },
      { type: "tool_use", id: "t1", name: "Bash", input: { command: "ls" } },
    ];
    assert.deepEqual(event({ type: "assistant", message: { content: blocks } }), [
      { kind: "thinking", ts: "t", text: "hm" },
      { kind: "assistant", ts: "t", text: "hi" },
      { kind: "tool_call", ts: "t", name: "Bash", input: { command: "ls" }, toolUseId: "t1" },
    ]);
    const content = [{ type: "tool_result", tool_use_id: "t1", content: [{ type: "text", text: "out" }, { type: "image" }] }];
    assert.deepEqual(event({ type: "user", message: { content } }), [
      { kind: "tool_result", ts: "t", toolUseId: "t1", content: "out\n[image]", isError: false },
    ]);
    const end = { type: "result", subtype: "success", is_error: true, result: "bad", errors: ["a", { message: "b" }], total_cost_usd: 0.5, usage: { input_tokens: 1 } };
    const shown = parse(JSON.stringify(end), "t").flatMap(readable);
    assert.deepEqual([...shown], ["a", "b", "bad", "Failed: 1 tokens in, 0 out, 0.5000 USD"]);
    assert.deepEqual(event({ type: "future" }), [{ kind: "stdout", ts: "t", text: '{"type":"future"}' }]);
  });
});

/** Evaluates the parser as the server's UI does: a function with `exports` and `module`, and no other name. */
function loadParser(folder: string): ParseLine {
  const source = readFileSync(join(folder, "ui-parser.cjs"), "utf8");
  const module = { exports: {} as { parseStdoutLine?: ParseLine } };
  const evaluate = vm.runInNewContext(`"use strict"; (function (exports, module) {\n${source}\n})`) as (exports: object, module: object) => void;
  evaluate(module.exports, module);
  assert.ok(module.exports.parseStdoutLine !== undefined);
  return module.exports.parseStdoutLine;
}

/** Objects of another context have other prototypes. */
function fromContext(entries: Entry[]): unknown {
  return JSON.parse(JSON.stringify(entries));
}
