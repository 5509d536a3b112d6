/** Paperclip's API as a person at its board uses it. On loopback no login is needed. */

export interface Run {
  id: string;
  status: string;
  errorCode: string | null;
  error: string | null;
  agentId: string;
  startedAt: string | null;
  finishedAt: string | null;
  usageJson: Record<string, unknown> | null;
  resultJson: Record<string, unknown> | null;
  sessionIdAfter: string | null;
  contextSnapshot: Record<string, unknown> | null;
}

export interface Issue {
  id: string;
  identifier: string;
  status: string;
  title: string;
}

export interface Agent {
  id: string;
  name: string;
  urlKey?: string;
  status: string;
}

export interface Comment {
  id: string;
  body: string;
  authorAgentId: string | null;
  createdAt: string;
}

export const ENDED = ["succeeded", "failed", "cancelled", "timed_out", "interrupted"];

export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class Paperclip {
  readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(`${this.url}/api/${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new ApiError(response.status, `${method} /api/${path}: ${response.status} ${text.slice(0, 500)}`);
    return (text === "" ? {} : JSON.parse(text)) as T;
  }

  get<T>(path: string): Promise<T> {
    return this.call<T>("GET", path);
  }

  post<T>(path: string, body: unknown = {}): Promise<T> {
    return this.call<T>("POST", path, body);
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.call<T>("PATCH", path, body);
  }

  async company(name: string): Promise<{ id: string; issuePrefix: string }> {
    return await this.post("companies", { name });
  }

  async agent(company: string, name: string, adapterType: string, adapterConfig: Record<string, unknown>): Promise<Agent> {
    return await this.post(`companies/${company}/agents`, { name, role: "engineer", adapterType, adapterConfig });
  }

  async task(company: string, agent: string, title: string, description: string): Promise<Issue> {
    return await this.post(`companies/${company}/issues`, { title, description, status: "todo", assigneeAgentId: agent });
  }

  async issue(id: string): Promise<Issue> {
    return await this.get(`issues/${id}`);
  }

  async comments(issue: string): Promise<Comment[]> {
    return await this.get(`issues/${issue}/comments`);
  }

  async comment(issue: string, body: string): Promise<Comment> {
    return await this.post(`issues/${issue}/comments`, { body });
  }

  /** The runs of a task, oldest first, among the last 200 of the company or of an agent. */
  async runs(company: string, issue: string, agent?: string): Promise<Run[]> {
    const of = agent === undefined ? "" : `&agentId=${agent}`;
    const runs = await this.get<Run[]>(`companies/${company}/heartbeat-runs?limit=200${of}`);
    return runs.filter((run) => run.contextSnapshot?.issueId === issue).reverse();
  }

  async run(id: string): Promise<Run> {
    return await this.get(`heartbeat-runs/${id}`);
  }

  /** Waits until a task has so many runs, and returns the last of them. */
  async nthRun(company: string, issue: string, count: number, timeoutMs = 60_000): Promise<Run> {
    return await until(`run ${count} of the task`, timeoutMs, async () => (await this.runs(company, issue))[count - 1]);
  }

  async ended(id: string, timeoutMs = 90_000): Promise<Run> {
    return await until(`the end of run ${id}`, timeoutMs, async () => {
      const run = await this.run(id);
      return ENDED.includes(run.status) ? run : undefined;
    });
  }

  /** The chunks of a run's log, in order. */
  async log(id: string): Promise<{ stream: string; chunk: string; ts: string }[]> {
    const chunks: { stream: string; chunk: string; ts: string }[] = [];
    let text = "";
    for (let offset: number | undefined = 0; offset !== undefined; ) {
      const path: string = `heartbeat-runs/${id}/log?offset=${offset}&limitBytes=256000`;
      const answer: { content: string; nextOffset?: number } = await this.get<{ content: string; nextOffset?: number }>(path).catch(
        (error: unknown) => {
          // A run that has printed nothing has no log.
          if (error instanceof ApiError && error.status === 404) return { content: "" };
          throw error;
        },
      );
      text += answer.content;
      offset = answer.nextOffset;
    }
    // The last line is cut if the server was killed while it wrote it.
    for (const line of text.split("\n").slice(0, -1)) {
      if (line.trim() !== "") chunks.push(JSON.parse(line) as { stream: string; chunk: string; ts: string });
    }
    return chunks;
  }

  /** What a run printed to a stream, as the server keeps it. */
  async output(id: string, stream = "stdout"): Promise<string> {
    return (await this.log(id)).filter((chunk) => chunk.stream === stream).map((chunk) => chunk.chunk).join("");
  }
}

/** Waits until a value is there. */
export async function until<T>(what: string, timeoutMs: number, get: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await get();
    if (value !== undefined) return value;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
