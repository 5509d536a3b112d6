/**
 * Reads the output of the Claude Code CLI (`--output-format stream-json`) as transcript entries.
 *
 * Every line becomes at least one entry, unless it is blank: what is not understood is shown as it was printed.
 */

import type { Entry } from "./entries.ts";
import { parserOf } from "./lines.ts";
import { members, number, string, type Members } from "./members.ts";

export const parseStdoutLine = parserOf(ofEvent);

function ofEvent(event: Members, ts: string): Entry[] {
  switch (event.type) {
    case "system":
      return event.subtype === "init"
        ? [{ kind: "init", ts, model: string(event.model) || "unknown", sessionId: string(event.session_id) }]
        : notice(event, ts);
    case "assistant":
    case "user":
      return ofMessage(event.type, members(event.message).content, ts);
    case "result":
      return [ofResult(event, ts)];
    case "stream_event":
      return ofDelta(members(members(event.event).delta), ts);
    case "rate_limit_event": {
      const info = members(event.rate_limit_info);
      const resets = typeof info.resetsAt === "number" ? `, resets ${new Date(info.resetsAt * 1000).toISOString()}` : "";
      return [{ kind: "system", ts, text: `Rate limit ${string(info.rateLimitType)}: ${string(info.status)}${resets}` }];
    }
    default:
      return [];
  }
}

function notice(event: Members, ts: string): Entry[] {
  const subtype = string(event.subtype);
  if (subtype === "") return [];
  if (subtype === "api_retry") {
    const text = `API retry ${string(event.attempt)} of ${string(event.max_retries)}: ${string(event.error_status)} ${string(event.error)}`;
    return [{ kind: "system", ts, text: text.trimEnd() }];
  }
  const about = ["status", "description", "summary", "content", "text", "hook_name"].map((name) => string(event[name]));
  return [{ kind: "system", ts, text: [subtype, ...about.filter((part) => part !== "")].join(": ") }];
}

function ofMessage(role: "assistant" | "user", content: unknown, ts: string): Entry[] {
  if (typeof content === "string") return content === "" ? [] : [{ kind: role, ts, text: content }];
  if (!Array.isArray(content)) return [];
  return content.flatMap((block) => ofBlock(role, members(block), ts));
}

function ofBlock(role: "assistant" | "user", block: Members, ts: string): Entry[] {
  const type = string(block.type);
  if (type === "text") return string(block.text) === "" ? [] : [{ kind: role, ts, text: string(block.text) }];
  if (type === "thinking") return string(block.thinking) === "" ? [] : [{ kind: "thinking", ts, text: string(block.thinking) }];
  if (type === "tool_use" || type === "server_tool_use" || type === "mcp_tool_use") {
    const id = string(block.id) || string(block.tool_use_id);
    const call: Entry = { kind: "tool_call", ts, name: string(block.name) || "unknown", input: block.input ?? {} };
    if (id !== "") call.toolUseId = id;
    return [call];
  }
  if (type.endsWith("tool_result")) {
    const content = resultText(block.content);
    return [{ kind: "tool_result", ts, toolUseId: string(block.tool_use_id), content, isError: block.is_error === true }];
  }
  return [{ kind: "stdout", ts, text: JSON.stringify(block) }];
}

function resultText(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content
    .map(members)
    .map((part) => (typeof part.text === "string" ? part.text : `[${string(part.type)}]`))
    .join("\n");
}

function ofResult(event: Members, ts: string): Entry {
  const usage = members(event.usage);
  const errors = Array.isArray(event.errors) ? event.errors.map((error) => string(error) || string(members(error).message) || JSON.stringify(error)) : [];
  return {
    kind: "result",
    ts,
    text: string(event.result),
    inputTokens: number(usage.input_tokens),
    outputTokens: number(usage.output_tokens),
    cachedTokens: number(usage.cache_read_input_tokens),
    costUsd: number(event.total_cost_usd),
    subtype: string(event.subtype),
    isError: event.is_error === true,
    errors: errors.filter((error) => error !== ""),
  };
}

function ofDelta(delta: Members, ts: string): Entry[] {
  if (string(delta.text) !== "") return [{ kind: "assistant", ts, text: string(delta.text), delta: true }];
  if (string(delta.thinking) !== "") return [{ kind: "thinking", ts, text: string(delta.thinking), delta: true }];
  return [];
}
