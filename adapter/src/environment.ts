/** The environment that the server gives to an agent, without what concerns the server's own machine. */

import { isObject, type JsonObject, object } from "./paperclip.ts";

/** Folders that exist on the server's machine only; the host gives the agent folders of its pod. */
const SCRATCH = ["TMPDIR", "TEMP", "TMP", "PAPERCLIP_TMPDIR", "PAPERCLIP_SCRATCH_DIR", "PAPERCLIP_RUN_SCRATCH_DIR", "PAPERCLIP_TASK_SCRATCH_DIR"];
/** Files, folders and network settings of the server's machine. */
const OF_THE_MACHINE = [
  "GH_CONFIG_DIR",
  "PAPERCLIP_GITHUB_HOST_HOME",
  "PAPERCLIP_GITHUB_AUTH_MODE",
  "PAPERCLIP_GIT_METADATA_ROOTS",
  "PAPERCLIP_RUNNER_NETWORK_ROOTS",
  "PAPERCLIP_RUNNER_NETWORK_ACCESS",
];
const MADE_BY_THE_SERVER: ReadonlySet<string> = new Set([...SCRATCH, ...OF_THE_MACHINE]);

/** Returns the config without the variables that the server added about its machine. What the agent's own config names is kept. */
export function cleanConfig(config: JsonObject, adapterConfig: unknown): JsonObject {
  if (!isObject(config.env)) return config;
  const own = object(object(adapterConfig).env);
  const kept = Object.entries(config.env).filter(([name]) => !MADE_BY_THE_SERVER.has(name) || name in own);
  return { ...config, env: Object.fromEntries(kept) };
}

/** Returns the config for an environment test: it has names of variables, but no values. */
export function withoutValues(config: JsonObject): JsonObject {
  if (!isObject(config.env)) return config;
  return { ...config, env: Object.fromEntries(Object.keys(config.env).map((name) => [name, ""])) };
}
