/** The body of `POST /v1/runs`. */

import type { Daemon } from "./daemon.ts";
import type { Definition } from "./definition.ts";
import { Diagnostic } from "./diagnostic.ts";
import { cleanConfig } from "./environment.ts";
import { FileCollector } from "./files.ts";
import { makeHome } from "./home.ts";
import { type ExecutionContext, isObject, type JsonObject, object, text } from "./paperclip.ts";
import { snapshot } from "./skills.ts";

export interface Prepared {
  body: JsonObject;
  warnings: string[];
}

/**
 * Refuses what this adapter cannot do, instead of ignoring it.
 *
 * @throws Diagnostic if the run has to be executed somewhere else.
 */
export function checkTarget(context: ExecutionContext): void {
  const target = object(context.executionTarget);
  const kind = text(target.kind);
  if (kind === undefined || kind === "local") return;
  const name = [kind, text(target.transport)].filter((part) => part !== undefined).join(" ");
  throw new Diagnostic(
    "k8s_execution_target_unsupported",
    `the agent's environment is ${JSON.stringify(name)}: agents of this type run on Kubernetes, and the sandbox would be idle`,
    "set the agent's environment to the local one, or choose another adapter",
  );
}

/** Builds the request. `resumes` names the run whose work this run continues. */
export async function prepare(
  context: ExecutionContext,
  definition: Definition,
  daemon: Daemon,
  resumes: string | undefined,
): Promise<Prepared> {
  const { features } = await daemon.version(context.signal);
  const warnings = definition.ignoredFields
    .filter((field) => field in object(context.agent.adapterConfig) && isSet(context.config[field]))
    .map((field) => `The field ${field} of the agent's config has no meaning on Kubernetes; it is ignored`);
  const { id: agentId, companyId } = context.agent;
  const workspace = text(object(object(context.context).paperclipWorkspace).agentHome);
  const ofHome = await makeHome({ serverHome: daemon.settings.home, companyId, agentId, workspace });
  if (ofHome !== undefined) warnings.push(ofHome);
  const config = { ...cleanConfig(context.config, context.agent.adapterConfig) };
  for (const field of definition.ignoredFields) Reflect.deleteProperty(config, field);
  const body: JsonObject = {
    adapter: definition.hostType,
    context: {
      runId: context.runId,
      agent: context.agent,
      runtime: context.runtime,
      config,
      context: context.context,
      ...(context.authToken !== undefined && { authToken: context.authToken }),
      ...(isObject(context.executionContinuation) && { executionContinuation: context.executionContinuation }),
      ...(isObject(context.executionTarget) && { executionTarget: context.executionTarget }),
      ...(isObject(context.runtimeTools) && { runtimeTools: context.runtimeTools }),
      ...(daemon.settings.paperclipPod !== undefined && { paperclipPod: daemon.settings.paperclipPod }),
    },
  };
  if (features.has("files")) {
    const collector = new FileCollector();
    await collector.addInstructions(context.config, daemon.settings.home);
    const skills = await snapshot(daemon, definition.hostType, context.config);
    await collector.addSkills(skills.entries);
    const { files, instructionsEntry, warnings: ofFiles } = collector.collected;
    body.files = files;
    if (instructionsEntry !== undefined) body.instructionsEntry = instructionsEntry;
    warnings.push(...ofFiles);
  }
  const servers = context.runtimeMcp?.getServers() ?? [];
  if (servers.length > 0 && features.has("mcp_servers")) body.mcpServers = servers;
  if (resumes !== undefined && features.has("resumes")) body.resumes = resumes;
  if (features.has("push_cancel")) body.pushesCancel = true;
  return { body, warnings };
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null && value !== "" && value !== false;
}
