/** Sessions as the server stores them, also with the names that earlier adapters used. */

import { isObject, type JsonObject, text } from "./paperclip.ts";

const NAMES: readonly (readonly [string, readonly string[]])[] = [
  ["sessionId", ["sessionId", "session_id"]],
  ["cwd", ["cwd", "workdir", "folder"]],
  ["workspaceId", ["workspaceId", "workspace_id"]],
  ["repoUrl", ["repoUrl", "repo_url"]],
  ["repoRef", ["repoRef", "repo_ref"]],
  ["promptBundleKey", ["promptBundleKey", "prompt_bundle_key"]],
];

export const sessionCodec = {
  deserialize: read,
  serialize: read,
  getDisplayId: (params: unknown): string | null => (isObject(params) ? (text(params.sessionId) ?? null) : null),
};

/** Returns a session with its present names, or null if it names none. Members that the server added are dropped. */
function read(stored: unknown): JsonObject | null {
  if (!isObject(stored)) return null;
  const former = new Set(NAMES.flatMap(([, names]) => names));
  const session: JsonObject = Object.fromEntries(Object.entries(stored).filter(([name]) => !former.has(name) && !name.startsWith("__paperclip")));
  for (const [name, names] of NAMES) {
    const value = names.map((candidate) => text(stored[candidate])).find((found) => found !== undefined);
    if (value !== undefined) session[name] = value;
  }
  return session.sessionId === undefined ? null : session;
}
