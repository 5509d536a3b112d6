/** Reads the output of the Gemini CLI (`--output-format stream-json`) as transcript entries. */

import { parserOf } from "./lines.ts";
import { members, number, string } from "./members.ts";

export const parseStdoutLine = parserOf((event, ts) => {
  switch (event.type) {
    case "init":
      return [{ kind: "init", ts, model: string(event.model) || "unknown", sessionId: string(event.session_id) }];
    case "message":
      return event.role === "user"
        ? [{ kind: "user", ts, text: string(event.content) }]
        : [{ kind: "assistant", ts, text: string(event.content), delta: true }];
    case "tool_use":
      return [{ kind: "tool_call", ts, name: string(event.tool_name) || "unknown", input: event.parameters ?? {}, toolUseId: string(event.tool_id) }];
    case "tool_result": {
      const content = string(event.output) || string(members(event.error).message);
      return [{ kind: "tool_result", ts, toolUseId: string(event.tool_id), content, isError: event.status === "error" }];
    }
    case "error":
      return [{ kind: event.severity === "warning" ? "system" : "stderr", ts, text: string(event.message) }];
    case "result": {
      const stats = members(event.stats);
      const error = string(members(event.error).message);
      return [
        {
          kind: "result",
          ts,
          text: "",
          inputTokens: number(stats.input),
          outputTokens: number(stats.output_tokens),
          cachedTokens: number(stats.cached),
          costUsd: 0,
          subtype: string(event.status),
          isError: event.status !== "success",
          errors: error === "" ? [] : [error],
        },
      ];
    }
    default:
      return [];
  }
});
