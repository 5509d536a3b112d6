/**
 * Builds the packages into `dist/<type>`: one bundled ES file, one CommonJS file for the server's UI, and what npm shows.
 *
 * The environment variable PACKAGE_REPOSITORY names the repository for npm's provenance, such as `https://github.com/owner/name`.
 */

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { build } from "esbuild";

import { PACKAGES, type PackageSpec } from "./packages.ts";

const folder = import.meta.dirname;
/** The packages have the version of the host that they belong to. */
const version = readVersion(readFileSync(join(folder, "../Cargo.toml"), "utf8"));
const shared = { bundle: true, write: true, charset: "utf8", legalComments: "none", logLevel: "warning", absWorkingDir: folder } as const;

for (const spec of PACKAGES) await buildPackage(spec);

async function buildPackage(spec: PackageSpec): Promise<void> {
  const to = join(folder, "dist", spec.type);
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  await build({
    ...shared,
    stdin: { contents: entry(spec), resolveDir: folder, sourcefile: `${spec.type}.ts`, loader: "ts" },
    outfile: join(to, "index.js"),
    format: "esm",
    platform: "node",
    target: "node24",
  });
  await build({
    ...shared,
    entryPoints: [join(folder, "ui", `${spec.parser}.ts`)],
    outfile: join(to, "ui-parser.cjs"),
    format: "cjs",
    platform: "neutral",
    target: "es2022",
  });
  writeFileSync(join(to, "package.json"), `${JSON.stringify(manifest(spec), null, 2)}\n`);
  writeFileSync(join(to, "README.md"), readme(spec));
  cpSync(join(folder, "../LICENSE"), join(to, "LICENSE"));
}

function entry(spec: PackageSpec): string {
  const { name, type, hostType, isRenderedByServer, ignoredFields } = spec;
  return `
    import { createAdapter } from "./src/adapter.ts";
    import description from "./describe/${hostType}.json" with { type: "json" };
    import { readable } from "./ui/entries.ts";
    import { parseStdoutLine } from "./ui/${spec.parser}.ts";

    const definition = {
      ...${JSON.stringify({ type, hostType, isRenderedByServer, ignoredFields, packageName: name, version })},
      description,
      render: (line) => parseStdoutLine(line, "").flatMap(readable),
    };
    export const type = definition.type;
    export const createServerAdapter = () => createAdapter(definition);
  `;
}

function manifest(spec: PackageSpec): object {
  const repository = process.env.PACKAGE_REPOSITORY;
  return {
    name: spec.name,
    version,
    description: `Runs the ${spec.agent} agents of Paperclip (agent type ${spec.type}) on Kubernetes by paperclip-host`,
    license: "Apache-2.0",
    keywords: ["paperclip", "paperclip-adapter", "kubernetes"],
    ...(repository && { repository: { type: "git", url: `git+${repository}.git`, directory: "adapter" } }),
    type: "module",
    engines: { node: ">=24.11" },
    exports: { ".": "./index.js", "./ui-parser": "./ui-parser.cjs", "./package.json": "./package.json" },
    files: ["index.js", "ui-parser.cjs"],
    paperclip: { adapterUiParser: "1.0.0" },
    publishConfig: { access: "public", provenance: true },
  };
}

function readme(spec: PackageSpec): string {
  const about = spec.type === spec.hostType ? "own-type.md" : "override.md";
  const read = (name: string): string => readFileSync(join(folder, "readme", name), "utf8");
  const values: Record<string, string> = { ...spec, version, about: read(about).trim() } as unknown as Record<string, string>;
  let text = read("README.md");
  // Twice: what is filled in has names to be filled in.
  for (let pass = 0; pass < 2; pass += 1) text = text.replaceAll(/\{\{(\w+)\}\}/g, (_, name: string) => values[name] ?? "");
  return text;
}

function readVersion(cargo: string): string {
  const found = /^version = "([^"]+)"/m.exec(cargo)?.[1];
  if (found === undefined) throw new Error("Cargo.toml names no version");
  return found;
}
