/** Reads the output of opencode (`run --format json`) as transcript entries. */

import { parserOf } from "./lines.ts";
import { members, number, string } from "./members.ts";

export const parseStdoutLine = parserOf((event, ts) => {
  const part = members(event.part);
  switch (event.type) {
    case "step_start":
      return [{ kind: "system", ts, text: `Step started in session ${string(event.sessionID)}` }];
    case "text":
      return [{ kind: "assistant", ts, text: string(part.text) }];
    case "reasoning":
      return [{ kind: "thinking", ts, text: string(part.text) }];
    case "tool_use": {
      const state = members(part.state);
      const id = string(part.callID);
      const exit = number(members(state.metadata).exit);
      return [
        { kind: "tool_call", ts, name: string(part.tool) || "unknown", input: state.input ?? {}, toolUseId: id },
        { kind: "tool_result", ts, toolUseId: id, content: string(state.output) || string(state.error), isError: state.status === "error" || exit !== 0 },
      ];
    }
    case "step_finish": {
      const tokens = members(part.tokens);
      return [
        {
          kind: "result",
          ts,
          text: string(part.reason),
          inputTokens: number(tokens.input),
          outputTokens: number(tokens.output) + number(tokens.reasoning),
          cachedTokens: number(members(tokens.cache).read),
          costUsd: number(part.cost),
          subtype: string(part.reason),
          isError: false,
          errors: [],
        },
      ];
    }
    case "error": {
      const error = members(event.error);
      const message = string(members(error.data).message);
      return [{ kind: "stderr", ts, text: message === "" ? string(error.name) : `${string(error.name)}: ${message}` }];
    }
    default:
      return [];
  }
});
