/** The snapshot of an agent's skills, from the daemon, or made here if the daemon cannot. */

import { type Daemon, Refused } from "./daemon.ts";
import { isObject, type JsonObject, object, type SkillEntry, type SkillSnapshot, text } from "./paperclip.ts";

/** The skill that documents Paperclip's API for agents: every agent has it. */
const OPERATIONAL_SKILL = "paperclipai/paperclip/paperclip";

/** Returns the snapshot; one that the daemon refuses to make is made here, with its reason among the warnings. `desired` are the skills that the server requests, if it is a sync. */
export async function snapshot(daemon: Daemon, type: string, config: JsonObject, desired?: string[]): Promise<SkillSnapshot> {
  if (await daemon.has("skills")) {
    const relevant = { paperclipRuntimeSkills: config.paperclipRuntimeSkills, paperclipSkillSync: config.paperclipSkillSync };
    try {
      const answer = await daemon.skills(type, { config: relevant, ...(desired && { desired }) });
      if (Array.isArray(answer.entries)) return answer as unknown as SkillSnapshot;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const own = ownSnapshot(type, config, desired);
      return { ...own, warnings: [...own.warnings, error.line()] };
    }
  }
  return ownSnapshot(type, config, desired);
}

/** Makes the snapshot of the candidates that the server passes in the config. */
export function ownSnapshot(type: string, config: JsonObject, desired?: string[]): SkillSnapshot {
  const listed = desired ?? keys(object(config.paperclipSkillSync).desiredSkills);
  const available = (Array.isArray(config.paperclipRuntimeSkills) ? config.paperclipRuntimeSkills : []).filter(isObject);
  const chosen = new Set<string>();
  const warnings: string[] = [];
  for (const name of listed) {
    const found = available.find((skill) => [skill.key, skill.runtimeName, skill.name].includes(name));
    const key = text(found?.key);
    if (key === undefined) warnings.push(`Skill ${name} is not available.`);
    else chosen.add(key);
  }
  if (available.some((skill) => skill.key === OPERATIONAL_SKILL)) chosen.add(OPERATIONAL_SKILL);
  const entries = available.flatMap((skill): SkillEntry[] => {
    const key = text(skill.key);
    if (key === undefined) return [];
    const isDesired = chosen.has(key);
    const isMissing = skill.sourceStatus === "missing";
    return [
      {
        key,
        runtimeName: text(skill.runtimeName) ?? null,
        desired: isDesired,
        managed: true,
        state: !isDesired ? "available" : isMissing ? "missing" : "configured",
        origin: "company_managed",
        readOnly: false,
        sourcePath: text(skill.source) ?? null,
        targetPath: null,
        detail: isMissing ? (text(skill.missingDetail) ?? "Its files are missing.") : null,
      },
    ];
  });
  return { adapterType: type, supported: true, mode: "ephemeral", desiredSkills: [...chosen], entries, warnings };
}

function keys(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry) => text(isObject(entry) ? entry.key : entry) ?? []);
}
