/** What distinguishes the packages that are built of this source. */

import type { JsonObject } from "./paperclip.ts";

export interface Definition {
  /** The agent type by which Paperclip's server knows the package. */
  type: string;
  /** The agent type of the daemon's plugin. */
  hostType: string;
  /** Whether the server's own UI renders the output of this type. It renders only that of its built-in types. */
  isRenderedByServer: boolean;
  /** Fields of the built-in type's config that have no meaning on Kubernetes. */
  ignoredFields: readonly string[];
  /** The package's name and version. */
  packageName: string;
  version: string;
  /** The description of the agent type as of the build: the last resort if no daemon answers. */
  description: JsonObject;
  /** Renders a line of the agent as lines for a person. */
  render(line: string): string[];
}
