/**
 * Where the daemon is, and where this package keeps its files. Everything comes from the environment of Paperclip's server: an agent's
 * config must not decide where its secrets are sent.
 */

import { homedir } from "node:os";
import { join } from "node:path";

import { Diagnostic } from "./diagnostic.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export type Address =
  | { kind: "unix"; path: string }
  | { kind: "tcp"; url: URL };

export interface Settings {
  address: Address;
  /** Read at each request, so that the token may be rotated. */
  tokenFile?: string;
  /** The token that a daemon on this machine generates, if no other one is named. There may be none. */
  generatedTokenFile?: string;
  /** Certificates that are trusted in addition to those of Node. */
  caFile?: string;
  /** Paperclip's home folder. */
  home: string;
  /** The folder of this package's own files. */
  folder: string;
  /** The base address of Paperclip's API, as this process reaches it. */
  paperclipUrl: string;
  /** The pod that Paperclip's server runs in, from which agents inherit. */
  paperclipPod?: PaperclipPod;
}

export interface PaperclipPod {
  name: string;
  /** Without one, the daemon's configuration has it. */
  namespace?: string;
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Returns Paperclip's home folder. */
export function paperclipHome(environment: Environment): string {
  return named(environment, "PAPERCLIP_HOME") ?? join(named(environment, "HOME") ?? homedir(), ".paperclip");
}

/**
 * Reads the settings.
 *
 * @throws Diagnostic if the daemon's address is not usable.
 */
export function readSettings(environment: Environment): Settings {
  const home = paperclipHome(environment);
  const instance = named(environment, "PAPERCLIP_INSTANCE_ID") ?? "default";
  const settings: Settings = {
    address: readAddress(named(environment, "PAPERCLIP_HOST_URL") ?? `unix:${join(home, "paperclip-host.sock")}`),
    home,
    folder: join(home, "instances", instance, "paperclip-host"),
    paperclipUrl: paperclipUrl(environment),
  };
  const tokenFile = named(environment, "PAPERCLIP_HOST_TOKEN_FILE");
  const caFile = named(environment, "PAPERCLIP_HOST_CA_FILE");
  if (tokenFile !== undefined) settings.tokenFile = tokenFile;
  // Sent to this machine only: whoever answers at another address must not learn it.
  else if (isLoopback(settings.address)) settings.generatedTokenFile = join(stateFolder(environment), "token");
  if (caFile !== undefined) settings.caFile = caFile;
  // Not derived from the host's name: a run that names a pod which does not exist is refused.
  const [pod, namespace] = [named(environment, "PAPERCLIP_POD_NAME"), named(environment, "PAPERCLIP_POD_NAMESPACE")];
  if (pod !== undefined) settings.paperclipPod = { name: pod, ...(namespace !== undefined && { namespace }) };
  return settings;
}

function isLoopback(address: Address): boolean {
  return address.kind === "tcp" && LOOPBACK.test(address.url.hostname);
}

/** The state folder of a daemon of this user, as the daemon itself derives it. */
function stateFolder(environment: Environment): string {
  const state = named(environment, "PAPERCLIP_STATE");
  if (state !== undefined) return state;
  const home = named(environment, "HOME") ?? homedir();
  return join(named(environment, "XDG_STATE_HOME") ?? join(home, ".local/state"), "paperclip-host");
}

/** Returns the address as a person would write it. */
export function showAddress(address: Address): string {
  return address.kind === "unix" ? `unix:${address.path}` : address.url.href.replace(/\/$/, "");
}

function readAddress(value: string): Address {
  const wrong = (why: string): Diagnostic =>
    new Diagnostic(
      "bad_host_url",
      `PAPERCLIP_HOST_URL is ${JSON.stringify(value)}: ${why}`,
      "set it to unix:/absolute/path, http://127.0.0.1:PORT or https://NAME[:PORT] in the environment of Paperclip's server",
    );
  if (value.startsWith("unix:")) {
    const path = value.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
    if (!path.startsWith("/")) throw wrong("the path of a socket must be absolute");
    return { kind: "unix", path };
  }
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined) throw wrong("it is not an address");
  if (url.protocol !== "https:" && url.protocol !== "http:") throw wrong(`${url.protocol} is not supported`);
  if (url.username !== "" || url.password !== "") throw wrong("the token belongs into PAPERCLIP_HOST_TOKEN_FILE");
  if (url.search !== "" || url.hash !== "") throw wrong("it must end with the path");
  if (url.protocol === "http:" && !LOOPBACK.test(url.hostname)) {
    throw wrong("plain HTTP would send secrets over the network unprotected");
  }
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return { kind: "tcp", url };
}

/** As the server itself derives the address that it gives to agents. */
function paperclipUrl(environment: Environment): string {
  const configured = named(environment, "PAPERCLIP_API_URL") ?? named(environment, "PAPERCLIP_RUNTIME_API_URL");
  if (configured !== undefined) return configured.replace(/\/+$/, "");
  let host = named(environment, "PAPERCLIP_LISTEN_HOST") ?? named(environment, "HOST") ?? "localhost";
  if (host === "0.0.0.0" || host === "::") host = "localhost";
  if (host.includes(":") && !host.startsWith("[")) host = `[${host}]`;
  return `http://${host}:${named(environment, "PAPERCLIP_LISTEN_PORT") ?? named(environment, "PORT") ?? "3100"}`;
}

function named(environment: Environment, name: string): string | undefined {
  const value = environment[name]?.trim();
  return value === undefined || value === "" ? undefined : value;
}
