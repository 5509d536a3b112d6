/** HTTP/1.1 over TCP, TLS or a Unix socket. */

import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";

import { Diagnostic, messageOf } from "./diagnostic.ts";
import { type Settings, showAddress } from "./settings.ts";

export interface Call {
  method: "GET" | "POST";
  /** Path and query, without a leading slash. */
  path: string;
  body?: unknown;
  signal?: AbortSignal | undefined;
  /** How long the head of the answer may take. */
  timeoutMs: number;
}

/** The daemon did not answer: it does not run, cannot be reached, or the connection was cut. */
export class Unreachable extends Diagnostic {
  constructor(settings: Settings, cause: string) {
    super(
      "k8s_host_unreachable",
      `paperclip-host does not answer at ${showAddress(settings.address)}: ${cause}`,
      "start `paperclip-host serve`, and check PAPERCLIP_HOST_URL in the environment of Paperclip's server",
    );
  }
}

const KEEP_ALIVE_MS = 15_000;
const MAX_ANSWER_BYTES = 64 << 20;

/**
 * Sends a request and returns the answer when its head has arrived.
 *
 * @throws Unreachable if there is no answer; Diagnostic if the token or certificate file cannot be read; the signal's reason if it aborts.
 */
export async function send(settings: Settings, call: Call): Promise<http.IncomingMessage> {
  call.signal?.throwIfAborted();
  const headers: http.OutgoingHttpHeaders = { accept: "application/json, application/x-ndjson" };
  const token = await readToken(settings);
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    headers["content-length"] = body.length;
  } else if (call.method === "POST") {
    headers["content-length"] = 0;
  }
  const request = await open(settings, call, headers);
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(() => request.destroy(new Error("there was no answer in time")), call.timeoutMs);
    request.on("socket", (socket) => {
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      socket.setNoDelay(true);
    });
    request.on("response", (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    request.on("error", (error) => {
      clearTimeout(timer);
      reject(call.signal?.aborted === true ? reasonOf(call.signal) : new Unreachable(settings, error.message));
    });
    request.end(body);
  });
}

/** Reads the body of an answer. */
export async function readBody(response: http.IncomingMessage, settings: Settings): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > MAX_ANSWER_BYTES) throw new Error("the answer is too large");
      chunks.push(chunk);
    }
  } catch (error) {
    throw new Unreachable(settings, messageOf(error));
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function open(settings: Settings, call: Call, headers: http.OutgoingHttpHeaders): Promise<http.ClientRequest> {
  const common = { method: call.method, headers, agent: false, ...(call.signal && { signal: call.signal }) };
  const { address } = settings;
  if (address.kind === "unix") {
    return http.request({ ...common, socketPath: address.path, path: `/${call.path}`, host: "localhost" });
  }
  const url = new URL(call.path, address.url);
  if (url.protocol === "http:") return http.request(url, common);
  const ca = settings.caFile === undefined ? undefined : await readNamed(settings.caFile, "PAPERCLIP_HOST_CA_FILE");
  return https.request(url, ca === undefined ? common : { ...common, ca });
}

/** Returns the first token of the file: while a token is replaced, a file has two. */
async function readToken(settings: Settings): Promise<string | undefined> {
  const { tokenFile, generatedTokenFile } = settings;
  if (tokenFile === undefined) {
    if (generatedTokenFile === undefined) return undefined;
    // Without it the daemon says what is missing.
    const text = await readFile(generatedTokenFile, "utf8").catch(() => "");
    return firstToken(text);
  }
  const token = firstToken(await readNamed(tokenFile, "PAPERCLIP_HOST_TOKEN_FILE"));
  if (token === undefined) {
    throw new Diagnostic(
      "bad_token_file",
      `the file ${tokenFile} of PAPERCLIP_HOST_TOKEN_FILE holds no token`,
      "put the daemon's bearer token into it, one line without spaces",
    );
  }
  return token;
}

function firstToken(text: string): string | undefined {
  const first = text.split("\n").map((line) => line.trim()).find((line) => line !== "");
  return first !== undefined && /^[\x21-\x7e]+$/.test(first) ? first : undefined;
}

async function readNamed(path: string, variable: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new Diagnostic(
      "unreadable_file",
      `the file of ${variable} cannot be read: ${messageOf(error)}`,
      `name a file in ${variable} that Paperclip's server can read`,
    );
  }
}

function reasonOf(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason));
}
