/** Reads the output of Codex (`exec --json`) as transcript entries. */

import type { Entry } from "./entries.ts";
import { parserOf } from "./lines.ts";
import { members, number, string, type Members } from "./members.ts";

export const parseStdoutLine = parserOf((event, ts) => {
  switch (event.type) {
    case "thread.started":
      return [{ kind: "init", ts, model: "unknown", sessionId: string(event.thread_id) }];
    case "turn.started":
      return [{ kind: "system", ts, text: "Turn started" }];
    case "turn.completed":
    case "turn.failed":
      return [ofEnd(event, ts)];
    case "item.started":
    case "item.updated":
    case "item.completed":
      return ofItem(members(event.item), string(event.type).slice("item.".length), ts);
    case "error":
      return [{ kind: "stderr", ts, text: string(event.message) }];
    default:
      return [];
  }
});

function ofEnd(event: Members, ts: string): Entry {
  const usage = members(event.usage);
  const cached = number(usage.cached_input_tokens);
  const isError = event.type === "turn.failed";
  const error = string(members(event.error).message);
  return {
    kind: "result",
    ts,
    text: "",
    inputTokens: Math.max(0, number(usage.input_tokens) - cached),
    outputTokens: number(usage.output_tokens),
    cachedTokens: cached,
    costUsd: 0,
    subtype: isError ? "failed" : "completed",
    isError,
    errors: error === "" ? [] : [error],
  };
}

function ofItem(item: Members, state: string, ts: string): Entry[] {
  const id = string(item.id);
  const isCompleted = state === "completed";
  switch (item.type) {
    case "agent_message":
      return isCompleted ? [{ kind: "assistant", ts, text: string(item.text) }] : [];
    case "reasoning":
      return isCompleted ? [{ kind: "thinking", ts, text: string(item.text) }] : [];
    case "error":
      return [{ kind: "stderr", ts, text: string(item.message) }];
    case "command_execution": {
      if (state === "started") return [{ kind: "tool_call", ts, name: "command_execution", input: { command: string(item.command) }, toolUseId: id }];
      if (!isCompleted) return [];
      const code = number(item.exit_code);
      const content = code === 0 ? string(item.aggregated_output) : `${string(item.aggregated_output)}\n[exit code ${code}]`;
      return [{ kind: "tool_result", ts, toolUseId: id, content, isError: code !== 0 || item.status === "failed" }];
    }
    case "file_change": {
      const changes = Array.isArray(item.changes) ? item.changes.map(members) : [];
      return [{ kind: "system", ts, text: `File changes: ${changes.map((change) => `${string(change.kind)} ${string(change.path)}`).join(", ")}` }];
    }
    case "mcp_tool_call":
    case "web_search": {
      const name = item.type === "mcp_tool_call" ? `${string(item.server)}.${string(item.tool)}` : "web_search";
      if (!isCompleted) return [{ kind: "tool_call", ts, name, input: item.arguments ?? { query: string(item.query) }, toolUseId: id }];
      const shown = item.error ?? item.result ?? "";
      const content = typeof shown === "string" ? shown : JSON.stringify(shown);
      return [{ kind: "tool_result", ts, toolUseId: id, content, isError: (item.error ?? null) !== null || item.status === "failed" }];
    }
    case "todo_list": {
      const tasks = Array.isArray(item.items) ? item.items.map(members) : [];
      return [{ kind: "system", ts, text: `To do: ${tasks.map((task) => `${task.completed === true ? "[x]" : "[ ]"} ${string(task.text)}`).join(", ")}` }];
    }
    default:
      return [];
  }
}
