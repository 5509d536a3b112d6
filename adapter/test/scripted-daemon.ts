/** A daemon that answers as a test says, on a Unix socket, and records what it was asked. */

import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Daemon } from "../src/daemon.ts";
import type { Address, Settings } from "../src/settings.ts";

export interface Request {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: http.IncomingHttpHeaders;
  body: Record<string, unknown>;
}

export type Answer = (request: Request, response: http.ServerResponse) => unknown;

export const FEATURES = ["cursor", "files", "mcp_servers", "resumes", "taken", "text", "skills", "push_cancel"];

export class ScriptedDaemon {
  readonly requests: Request[] = [];
  readonly home: string;
  readonly socket: string;
  readonly folder: string;
  features: string[] | undefined = FEATURES;
  api: unknown = "1";
  /** By method and path without its query, such as `POST /v1/runs`. */
  readonly answers = new Map<string, Answer>();
  private server: http.Server | undefined;
  /** The address over TCP, if it listens there. */
  private url: URL | undefined;

  private constructor(home: string) {
    this.home = home;
    this.socket = join(home, "paperclip-host.sock");
    this.folder = join(home, "instances", "default", "paperclip-host");
  }

  static async start(isListening = true): Promise<ScriptedDaemon> {
    const daemon = new ScriptedDaemon(await mkdtemp(join(tmpdir(), "adapter-")));
    if (isListening) await daemon.listen();
    return daemon;
  }

  async listen(): Promise<void> {
    await rm(this.socket, { force: true });
    const server = http.createServer((request, response) => void this.answer(request, response));
    this.server = server;
    await new Promise<void>((resolve) => server.listen(this.socket, resolve));
  }

  /** Listens on TCP from now on, and no longer on its socket. */
  async listenOnTcp(): Promise<void> {
    await this.kill();
    const server = http.createServer((request, response) => void this.answer(request, response));
    this.server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  /** Ends the process, as far as its clients notice. */
  async kill(): Promise<void> {
    const server = this.server;
    this.server = undefined;
    server?.closeAllConnections();
    if (server === undefined) return;
    await new Promise((resolve) => server.close(resolve));
  }

  async remove(): Promise<void> {
    await this.kill();
    await rm(this.home, { recursive: true, force: true });
  }

  settings(): Settings {
    const address: Address = this.url === undefined ? { kind: "unix", path: this.socket } : { kind: "tcp", url: this.url };
    return { address, home: this.home, folder: this.folder, paperclipUrl: "http://127.0.0.1:9" };
  }

  client(): Daemon {
    return new Daemon(this.settings());
  }

  /** The requests with a method and a path, in order. */
  asked(what: string): Request[] {
    return this.requests.filter((request) => `${request.method} ${request.path}` === what);
  }

  private async answer(incoming: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const url = new URL(incoming.url ?? "/", "http://localhost");
    const chunks: Buffer[] = [];
    for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const request: Request = {
      method: incoming.method ?? "GET",
      path: url.pathname,
      query: url.searchParams,
      headers: incoming.headers,
      body: body === "" ? {} : (JSON.parse(body) as Record<string, unknown>),
    };
    this.requests.push(request);
    const answer = this.answers.get(`${request.method} ${request.path}`);
    if (answer !== undefined) {
      await answer(request, response);
    } else if (request.path === "/v1/version" && this.features !== undefined) {
      json({ api: this.api, host: "0.2.0", contract: ["0.2"], features: this.features })(request, response);
    } else if (request.path === "/v1/runs" && request.method === "POST") {
      json({ runId: "run-1" }, 202)(request, response);
    } else {
      refuse(404, "not_found", `no route has the path ${request.path}`)(request, response);
    }
  }
}

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Answer {
  return (_, response) => response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}

export function refuse(status: number, code: string, message: string, headers: Record<string, string> = {}): Answer {
  return json({ error: { code, message, hint: "do something about it" } }, status, headers);
}

/** Streams records from the requested one on, and then ends, waits, or cuts the connection. */
export function stream(records: readonly Record<string, unknown>[], then: "end" | "wait" | "cut" = "end"): Answer {
  return (request, response) => {
    const from = Number(request.query.get("from") ?? 0);
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    const rest = records.filter((record) => Number(record.seq) >= from).map((record) => `${JSON.stringify(record)}\n`);
    response.write(rest.length > 0 ? rest.join("") : "\n", () => {
      if (then === "end") response.end();
      if (then === "cut") response.destroy();
    });
  };
}

/** Answers in order, the last one again and again. */
export function inOrder(...answers: [Answer, ...Answer[]]): Answer {
  let next = 0;
  return (request, response) => {
    const answer = answers[Math.min(next, answers.length - 1)];
    next += 1;
    return answer?.(request, response);
  };
}
