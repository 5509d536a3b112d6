/** Paperclip's transcript entries, and how they read as text. */

export type Entry =
  | { kind: "init"; ts: string; model: string; sessionId: string }
  | { kind: "assistant" | "thinking" | "user" | "system" | "stdout" | "stderr"; ts: string; text: string; delta?: true }
  | { kind: "tool_call"; ts: string; name: string; input: unknown; toolUseId?: string }
  | { kind: "tool_result"; ts: string; toolUseId: string; content: string; isError: boolean }
  | {
      kind: "result";
      ts: string;
      text: string;
      inputTokens: number;
      outputTokens: number;
      cachedTokens: number;
      costUsd: number;
      subtype: string;
      isError: boolean;
      errors: string[];
    };

export type ParseLine = (line: string, ts: string) => Entry[];

/** Longest text of a tool's input or result in readable output; the agent's own lines have all of it. */
const MAX_TOOL_CHARS = 2_000;

/** Returns the lines in which a person reads an entry. */
export function readable(entry: Entry): string[] {
  switch (entry.kind) {
    case "init":
      return [`Session ${entry.sessionId} with ${entry.model}`];
    case "assistant":
    case "user":
    case "stdout":
    case "stderr":
      return lines(entry.text);
    case "system":
      return lines(entry.text).map((line) => `· ${line}`);
    case "thinking":
      return lines(entry.text).map((line) => `  ${line}`);
    case "tool_call":
      return lines(shortened(`→ ${entry.name} ${typeof entry.input === "string" ? entry.input : JSON.stringify(entry.input)}`));
    case "tool_result":
      return lines(shortened(entry.content)).map((line) => `${entry.isError ? "✗" : "←"} ${line}`);
    case "result": {
      const cost = entry.costUsd > 0 ? `, ${entry.costUsd.toFixed(4)} USD` : "";
      const end = `${entry.isError ? "Failed" : "Done"}: ${entry.inputTokens} tokens in, ${entry.outputTokens} out${cost}`;
      return [...entry.errors.flatMap(lines), ...(entry.isError ? lines(entry.text) : []), end];
    }
  }
}

function lines(text: string): string[] {
  return text.replace(/\r?\n$/, "").split(/\r?\n/);
}

function shortened(text: string): string {
  if (text.length <= MAX_TOOL_CHARS) return text;
  return `${text.slice(0, MAX_TOOL_CHARS)} … (${text.length - MAX_TOOL_CHARS} more characters)`;
}
