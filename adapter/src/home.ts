/** The agent's home on the data volume, which Paperclip's server and the agents' pods mount. */

import { chown, mkdir } from "node:fs/promises";
import { basename, dirname, join, normalize } from "node:path";
import { messageOf } from "./diagnostic.ts";

/** Where Paperclip's pod mounts its data volume. A server whose home is elsewhere shares no volume with agents' pods. */
const DATA_DIR = "/paperclip";
/** The user that agents run as. */
const AGENT_USER = 1000;
/** Ids that are names of folders. The host names the homes of others by a digest, and the kubelet makes them. */
const PLAIN_ID = /^[\w-]{1,128}$/;

/** Whose folders are made, and where Paperclip's server has its own. */
export interface Owner {
  serverHome: string | undefined;
  companyId: string;
  agentId: string;
  /** The workspace that the server has for the agent alone: the pod mounts it, too. */
  workspace: string | undefined;
}

/**
 * Makes an agent's home and its workspace, if they do not exist: where the volume's driver applies no `fsGroup`, a folder that the kubelet
 * makes belongs to root, and neither the agent nor the server could write to it. Returns a warning if they cannot be made.
 */
export async function makeHome({ serverHome, companyId, agentId, workspace }: Owner, dataDir = DATA_DIR): Promise<string | undefined> {
  if (serverHome !== dataDir || !PLAIN_ID.test(companyId) || !PLAIN_ID.test(agentId)) return undefined;
  const home = join(dataDir, "agent-homes", companyId, agentId);
  try {
    const isOwn = workspace?.startsWith(join(dataDir, "instances/")) === true && basename(workspace) === agentId;
    if (isOwn && normalize(workspace) === workspace) await mkdir(workspace, { recursive: true });
    await mkdir(dirname(home), { recursive: true, mode: 0o755 });
    const made = await mkdir(home, { recursive: true, mode: 0o770 });
    if (made !== undefined && process.getuid?.() === 0) await chown(home, AGENT_USER, AGENT_USER);
    return undefined;
  } catch (error) {
    return `The agent's home ${home} cannot be made: ${messageOf(error)}`;
  }
}
