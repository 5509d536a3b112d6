/** Paperclip's environment test of an agent's config. */

import type { Daemon } from "./daemon.ts";
import type { Definition } from "./definition.ts";
import { Diagnostic, messageOf } from "./diagnostic.ts";
import { cleanConfig, withoutValues } from "./environment.ts";
import { type EnvironmentCheck, type EnvironmentReport, isObject, type JsonObject, object, text } from "./paperclip.ts";
import { showAddress } from "./settings.ts";

/** Tests whether a run would work. Never throws: the server would answer 500 without a reason. */
export async function testEnvironment(context: JsonObject, definition: Definition, getDaemon: () => Daemon): Promise<EnvironmentReport> {
  const checks: EnvironmentCheck[] = [];
  try {
    const kind = text(object(context.executionTarget).kind);
    if (kind !== undefined && kind !== "local") {
      checks.push({
        code: "k8s_execution_target_unsupported",
        level: "error",
        message: `The environment ${text(context.environmentName) ?? kind} is not used: agents of this type run on Kubernetes`,
        hint: "Set the agent's environment to the local one",
      });
    }
    const daemon = getDaemon();
    daemon.forgetVersion();
    const { api, host } = await daemon.version();
    checks.push({
      code: "k8s_host_reachable",
      level: "info",
      message: `paperclip-host ${host} answers at ${showAddress(daemon.settings.address)}`,
      detail: `API version ${api}; adapter package ${definition.packageName} ${definition.version}`,
    });
    const config = withoutValues(cleanConfig(object(context.config), undefined));
    const report = await daemon.check(definition.hostType, config);
    const found = Array.isArray(report.checks) ? report.checks.filter(isObject) : [];
    checks.push(...found.map(readCheck));
  } catch (error) {
    const code = error instanceof Diagnostic ? error.code : "k8s_adapter_failed";
    const hint = error instanceof Diagnostic ? error.hint : "Look into the log of Paperclip's server";
    checks.push({ code, level: "error", message: error instanceof Error ? error.message : messageOf(error), hint });
  }
  const has = (level: string): boolean => checks.some((check) => check.level === level);
  return {
    adapterType: definition.type,
    status: has("error") ? "fail" : has("warn") ? "warn" : "pass",
    checks,
    testedAt: new Date().toISOString(),
  };
}

function readCheck(check: JsonObject): EnvironmentCheck {
  const level = check.level === "error" || check.level === "warn" ? check.level : "info";
  const read: EnvironmentCheck = { code: text(check.code) ?? "k8s_check", level, message: text(check.message) ?? "" };
  const [detail, hint] = [text(check.detail), text(check.hint)];
  if (detail !== undefined) read.detail = detail;
  if (hint !== undefined) read.hint = hint;
  return read;
}
