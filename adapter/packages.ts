/** The packages that are built of this source: one for each agent type, since the server allows a package one type. */

export interface PackageSpec {
  /** The name on npm. */
  name: string;
  /** The agent type by which Paperclip's server knows it. */
  type: string;
  /** The agent type of the daemon's plugin. */
  hostType: string;
  /** The agent, for people. */
  agent: string;
  /** The module in `ui/` that reads the agent's output. */
  parser: string;
  isRenderedByServer: boolean;
  ignoredFields: readonly string[];
}

export const PACKAGES: readonly PackageSpec[] = [
  {
    name: "paperclip-host-claude-k8s",
    type: "claude_k8s",
    hostType: "claude_k8s",
    agent: "Claude Code",
    parser: "claude",
    isRenderedByServer: false,
    ignoredFields: [],
  },
  {
    name: "paperclip-host-codex-k8s",
    type: "codex_k8s",
    hostType: "codex_k8s",
    agent: "Codex",
    parser: "codex",
    isRenderedByServer: false,
    ignoredFields: [],
  },
  {
    name: "paperclip-host-gemini-k8s",
    type: "gemini_k8s",
    hostType: "gemini_k8s",
    agent: "Gemini CLI",
    parser: "gemini",
    isRenderedByServer: false,
    ignoredFields: [],
  },
  {
    name: "paperclip-host-opencode-k8s",
    type: "opencode_k8s",
    hostType: "opencode_k8s",
    agent: "opencode",
    parser: "opencode",
    isRenderedByServer: false,
    ignoredFields: [],
  },
  {
    // Overrides the built-in type: the server's own rules and views for it apply.
    name: "paperclip-host-claude-local",
    type: "claude_local",
    hostType: "claude_k8s",
    agent: "Claude Code",
    parser: "claude",
    isRenderedByServer: true,
    ignoredFields: ["command", "cwd", "chrome", "engine", "workspaceStrategy", "workspaceRuntime"],
  },
];
