/** Reads a line of events: what is not understood is shown as it was printed. */

import type { Entry, ParseLine } from "./entries.ts";
import { members, type Members } from "./members.ts";

/** Makes a parser of a function that reads an event. */
export function parserOf(ofEvent: (event: Members, ts: string) => Entry[]): ParseLine {
  return (line, ts) => {
    if (line.trim() === "") return [];
    const shown: Entry = { kind: "stdout", ts, text: line.replace(/\r$/, "") };
    if (!line.trimStart().startsWith("{")) return [shown];
    let event: Members;
    try {
      event = members(JSON.parse(line));
    } catch {
      return [shown];
    }
    const entries = ofEvent(event, ts);
    return entries.length > 0 ? entries : [shown];
  };
}
