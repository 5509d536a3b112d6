/** The module that Paperclip's server loads. */

import { Away } from "./away.ts";
import { Daemon } from "./daemon.ts";
import type { Definition } from "./definition.ts";
import { configSchema, Descriptions, lastKnown, models } from "./description.ts";
import { messageOf } from "./diagnostic.ts";
import { testEnvironment } from "./environment-test.ts";
import { execute, EXECUTE_TIMING } from "./execute.ts";
import { type ExecutionContext, type JsonObject, object, text } from "./paperclip.ts";
import { PaperclipApi } from "./paperclip-api.ts";
import { PendingRuns } from "./pending.ts";
import { sessionCodec } from "./session.ts";
import { type Environment, readSettings, type Settings } from "./settings.ts";
import { ownSnapshot, snapshot } from "./skills.ts";

/** What all loaded copies of a package share: the server loads it again on a reload, while runs of the former copy continue. */
interface Shared {
  active: Set<string>;
  away?: Away;
}

/** Creates the adapter. Never throws: without its adapter the server would execute the agent's runs as processes of its own machine. */
export function createAdapter(definition: Definition, environment: Environment = process.env): JsonObject {
  let daemon: Daemon | undefined;
  // A mistake in the environment is reported by each use, not by the load.
  const settings = (): Settings => readSettings(environment);
  const getDaemon = (): Daemon => (daemon ??= new Daemon(settings()));
  const getPending = (): PendingRuns => new PendingRuns(settings().folder, definition.type);
  const getPaperclip = (): PaperclipApi => new PaperclipApi(settings().paperclipUrl);

  const last = lastKnown(definition, attempt(() => settings().folder));
  const descriptions = new Descriptions(definition, getDaemon, last);
  const shared = sharedState(definition.type);
  attempt(() => {
    shared.away?.stop();
    shared.away = new Away(getPending(), getDaemon, getPaperclip, shared.active);
    shared.away.start();
  });

  const services = {
    definition,
    daemon: getDaemon,
    paperclip: getPaperclip,
    pending: getPending,
    active: shared.active,
    timing: EXECUTE_TIMING,
  };
  const listSkills = async (context: JsonObject, desired?: unknown): Promise<unknown> => {
    const config = object(context.config);
    const requested = Array.isArray(desired) ? desired.filter((key): key is string => typeof key === "string") : undefined;
    try {
      return { ...(await snapshot(getDaemon(), definition.hostType, config, requested)), adapterType: definition.type };
    } catch (error) {
      const own = ownSnapshot(definition.type, config, requested);
      return { ...own, warnings: [...own.warnings, messageOf(error)] };
    }
  };
  return {
    // Members that this server does not know are harmless; `hasOutOfProcessLiveness` has no reader.
    ...capabilities(last),
    type: definition.type,
    models: models(last),
    agentConfigurationDoc: text(last.doc) ?? "",
    sessionCodec,
    execute: (context: ExecutionContext) => execute(context, services),
    testEnvironment: (context: JsonObject) => testEnvironment(context, definition, getDaemon),
    getConfigSchema: async () => configSchema(definition, await descriptions.get()),
    listModels: async () => models(await descriptions.get()),
    refreshModels: async () => models(await descriptions.get(true)),
    detectModel: () => Promise.resolve(null),
    listSkills: (context: JsonObject) => listSkills(context),
    syncSkills: (context: JsonObject, desired: unknown) => listSkills(context, desired),
    getQuotaWindows: () => quotaWindows(getDaemon, definition),
  };
}

function capabilities(description: JsonObject): JsonObject {
  const known = { ...object(description.capabilities) };
  Reflect.deleteProperty(known, "hasOutOfProcessLiveness");
  return known;
}

async function quotaWindows(daemon: () => Daemon, definition: Definition): Promise<JsonObject> {
  const none = { provider: definition.type, source: "paperclip-host", ok: false, windows: [] };
  try {
    if (!(await daemon().has("quota"))) return { ...none, error: "this paperclip-host has no quota windows" };
    return { ...none, ...(await daemon().quota(definition.hostType)) };
  } catch (error) {
    return { ...none, error: messageOf(error) };
  }
}

function sharedState(type: string): Shared {
  const registry = globalThis as Record<symbol, Shared | undefined>;
  return (registry[Symbol.for(`paperclip-host.adapter.${type}`)] ??= { active: new Set() });
}

function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}
