/** The processes of a stage: Paperclip's server, the daemon with a local cluster, and the folders that they use. */

import { type ChildProcess, spawn } from "node:child_process";
import { chownSync, closeSync, copyFileSync, cpSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { createServer } from "node:net";
import { delimiter, dirname, join } from "node:path";

/** Where `cargo xtask paperclip` has put what is needed. */
export interface Ingredients {
  /** The folder of everything that the stage writes. */
  folder: string;
  /** The daemon's program. */
  host: string;
  /** The folder that has the server in its `node_modules`. */
  server: string;
  /** The agent's program, if it is not the stand-in. */
  claude?: string;
}

/** What is written into `stage.json`, so that other commands find the stage. */
export interface StageState {
  serverPort: number;
  serverPid: number;
  daemonPid: number;
  clusterPid: number;
}

/** Postgres refuses to run as root. */
const UNPRIVILEGED = 65_534;
const READY_MS = 300_000;
const JWT_SECRET = "only-for-a-stage-on-this-machine-0123456789";

export class Stage {
  readonly folder: string;
  readonly home: string;
  readonly shared: string;
  private readonly ingredients: Ingredients;
  private port = 0;
  private server: ChildProcess | undefined;
  private daemon: ChildProcess | undefined;
  private cluster: ChildProcess | undefined;

  constructor(ingredients: Ingredients) {
    this.ingredients = ingredients;
    this.folder = ingredients.folder;
    this.home = join(this.folder, "paperclip");
    this.shared = join(this.folder, "agents");
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get serverPid(): number {
    return this.server?.pid ?? 0;
  }

  get daemonPid(): number {
    return this.daemon?.pid ?? 0;
  }

  /** Creates the folders, empty, with copies of what another user could not read in its place. */
  async prepare(port = 0): Promise<void> {
    rmSync(this.folder, { recursive: true, force: true });
    for (const path of [this.folder, this.home, this.shared, join(this.folder, "home"), join(this.folder, "adapters"), join(this.folder, "bin")]) {
      mkdirSync(path, { recursive: true, mode: 0o755 });
      this.give(path);
    }
    copyFileSync(this.ingredients.host, join(this.folder, "bin/paperclip-host"));
    if (this.ingredients.claude === undefined) copyFileSync(join(import.meta.dirname, "agent/claude"), join(this.folder, "bin/claude"));
    else symlinkSync(this.ingredients.claude, join(this.folder, "bin/claude"));
    cpSync(join(import.meta.dirname, "../dist"), join(this.folder, "adapters"), { recursive: true });
    cpSync(join(import.meta.dirname, "../../tests/fixtures"), join(this.folder, "fixtures"), { recursive: true });
    writeFileSync(join(this.folder, "pod.json"), JSON.stringify(POD));
    this.port = port === 0 ? await freePort() : port;
  }

  /** The folder of an adapter package, as it is installed. */
  adapter(type: string): string {
    return join(this.folder, "adapters", type);
  }

  /** The path of a recording, as agents read it. */
  recording(name: string): string {
    return join(this.folder, "fixtures", name);
  }

  /** Starts the cluster, in a process of its own: agents outlive a daemon that is killed. */
  async startCluster(): Promise<void> {
    this.cluster = this.host("cluster.log", ["cluster", "--listen", "127.0.0.1:0", "--state", join(this.folder, "cluster"), "--kubeconfig-out", this.kubeconfig]);
    await this.appears(this.kubeconfig, "the local cluster", "cluster.log", this.cluster, 30_000);
  }

  startDaemon(): void {
    const options = ["--kubeconfig", this.kubeconfig, "--listen", `unix:${join(this.home, "paperclip-host.sock")}`];
    options.push("--state", join(this.folder, "daemon"), "--self-pod", join(this.folder, "pod.json"));
    options.push("--paperclip-home", this.home, "--paperclip-api-url", this.url, "--log-format", "text");
    this.daemon = this.host("daemon.log", ["serve", "--cluster", "kubeconfig", ...options]);
  }

  /** Waits until a daemon listens that was started first in this stage: it compiles its plugins before that. */
  async daemonListens(): Promise<void> {
    await this.appears(join(this.home, "paperclip-host.sock"), "the daemon", "daemon.log", this.daemon, READY_MS);
  }

  async startServer(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      this.spawnServer();
      try {
        await this.ready();
        return;
      } catch (error) {
        // The server searches for a free port for its database, and another one may have taken it meanwhile.
        if (attempt === 3 || this.server?.exitCode === null || !this.logTail("server.log").includes("Address already in use")) throw error;
      }
    }
  }

  private spawnServer(): void {
    const log = this.log("server.log");
    this.server = spawn(process.execPath, [join(this.ingredients.server, "node_modules/@paperclipai/server/dist/index.js")], {
      ...this.user(),
      cwd: this.folder,
      detached: true,
      env: {
        ...this.basics(),
        PAPERCLIP_HOME: this.home,
        HOST: "127.0.0.1",
        PORT: String(this.port),
        PAPERCLIP_AGENT_JWT_SECRET: JWT_SECRET,
        PAPERCLIP_MIGRATION_AUTO_APPLY: "true",
        PAPERCLIP_DB_BACKUP_ENABLED: "false",
        PAPERCLIP_ANNOUNCEMENTS_ENABLED: "false",
        PAPERCLIP_TELEMETRY_DISABLED: "1",
        DO_NOT_TRACK: "1",
        HEARTBEAT_SCHEDULER_INTERVAL_MS: "10000",
      },
      stdio: ["ignore", log, log],
    });
    this.server.unref();
    closeSync(log);
  }

  /** Starts what does not run. */
  async ensureRunning(): Promise<void> {
    if (this.daemon === undefined) this.startDaemon();
    if (this.server === undefined) await this.startServer();
  }

  /** Sends the server a signal, and waits until it has ended. */
  async stopServer(signal: NodeJS.Signals): Promise<void> {
    await end(this.server, signal);
    this.server = undefined;
  }

  async stopDaemon(signal: NodeJS.Signals): Promise<void> {
    await end(this.daemon, signal);
    this.daemon = undefined;
  }

  /** Kills the database, as if the machine of Paperclip's server had failed. The server has to have ended. */
  async killDatabase(): Promise<void> {
    const pid = databasePid(this.home);
    if (pid === undefined) return;
    process.kill(pid, "SIGKILL");
    while (commandLine(pid) !== "") await new Promise((resolve) => setTimeout(resolve, 50));
  }

  /** Sends a request to the daemon, as its own user, and returns the body of the answer. */
  async askDaemon(path: string): Promise<string> {
    return await new Promise((resolve, reject) => {
      const request = get({ socketPath: join(this.home, "paperclip-host.sock"), path: `/${path}`, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const body = Buffer.concat(chunks).toString("utf8");
          if (response.statusCode === 200) resolve(body);
          else reject(new Error(`GET /${path}: ${response.statusCode} ${body}`));
        });
      });
      request.on("error", reject);
    });
  }

  /** Ends everything that belongs to the stage, the database included. */
  async down(): Promise<void> {
    await Promise.all([this.stopServer("SIGTERM"), this.stopDaemon("SIGTERM")]);
    await end(this.cluster, "SIGTERM");
    stopDatabase(this.home);
  }

  save(): void {
    const state: StageState = { serverPort: this.port, serverPid: this.serverPid, daemonPid: this.daemonPid, clusterPid: this.cluster?.pid ?? 0 };
    writeFileSync(join(this.folder, "stage.json"), JSON.stringify(state));
  }

  logTail(name: string, lines = 30): string {
    const path = join(this.folder, name);
    return existsSync(path) ? readFileSync(path, "utf8").split("\n").slice(-lines).join("\n") : "";
  }

  /** Waits for the file that a process makes when others can use it. */
  private async appears(path: string, what: string, logName: string, process: ChildProcess | undefined, limitMs: number): Promise<void> {
    const deadline = performance.now() + limitMs;
    while (!existsSync(path)) {
      if (process?.exitCode !== null || performance.now() > deadline) {
        throw new Error(`${what} did not become ready:\n${this.logTail(logName)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  private async ready(): Promise<void> {
    const deadline = performance.now() + READY_MS;
    for (;;) {
      const phase = await fetch(`${this.url}/api/health`)
        .then((answer) => answer.json() as Promise<{ startupRecovery?: { phase?: string } }>)
        .then((health) => health.startupRecovery?.phase)
        .catch(() => undefined);
      if (phase === "ready") return;
      if (this.server?.exitCode !== null || performance.now() > deadline) {
        throw new Error(`Paperclip's server did not become ready:\n${this.logTail("server.log")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }

  private get kubeconfig(): string {
    return join(this.folder, "cluster.kubeconfig");
  }

  private host(logName: string, arguments_: string[]): ChildProcess {
    const log = this.log(logName);
    const options = { ...this.user(), cwd: this.folder, detached: true, env: this.basics() };
    const child = spawn(join(this.folder, "bin/paperclip-host"), arguments_, { ...options, stdio: ["ignore", log, log] });
    child.unref();
    closeSync(log);
    return child;
  }

  private basics(): Record<string, string> {
    const path = [join(this.folder, "bin"), dirname(process.execPath), process.env.PATH ?? "/usr/bin:/bin"].join(delimiter);
    return { PATH: path, HOME: join(this.folder, "home"), LANG: "C.UTF-8" };
  }

  private user(): { uid?: number; gid?: number } {
    return process.getuid?.() === 0 ? { uid: UNPRIVILEGED, gid: UNPRIVILEGED } : {};
  }

  private give(path: string): void {
    if (process.getuid?.() === 0) chownSync(path, UNPRIVILEGED, UNPRIVILEGED);
  }

  private log(name: string): number {
    return openSync(join(this.folder, name), "a", 0o644);
  }
}

/** Ends the processes of a stage that another process has started. */
export async function downFromState(folder: string): Promise<boolean> {
  const path = join(folder, "stage.json");
  if (!existsSync(path)) return false;
  const state = JSON.parse(readFileSync(path, "utf8")) as StageState;
  const programs: [number, string][] = [
    [state.serverPid, "@paperclipai/server"],
    [state.daemonPid, "paperclip-host"],
    [state.clusterPid, "paperclip-host"],
  ];
  for (const [pid, program] of programs) {
    // The number may belong to another process by now.
    if (!commandLine(pid).includes(program)) continue;
    process.kill(pid, "SIGTERM");
    const deadline = performance.now() + 20_000;
    while (commandLine(pid).includes(program)) {
      if (performance.now() > deadline) process.kill(pid, "SIGKILL");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  stopDatabase(join(folder, "paperclip"));
  rmSync(path);
  return true;
}

export function readState(folder: string): StageState | undefined {
  const path = join(folder, "stage.json");
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as StageState) : undefined;
}

export function isRunning(pid: number, program: string): boolean {
  return commandLine(pid).includes(program);
}

/** The database survives a server that was killed. */
function stopDatabase(home: string): void {
  const pid = databasePid(home);
  if (pid !== undefined) process.kill(pid, "SIGINT");
}

function databasePid(home: string): number | undefined {
  const file = join(home, "instances/default/db/postmaster.pid");
  if (!existsSync(file)) return undefined;
  const pid = Number(readFileSync(file, "utf8").split("\n", 1)[0]);
  return Number.isInteger(pid) && pid > 1 && commandLine(pid).includes(home) ? pid : undefined;
}

function commandLine(pid: number): string {
  if (pid <= 1) return "";
  try {
    const state = readFileSync(`/proc/${pid}/stat`, "utf8");
    // A process that has ended and was not waited for has no command line.
    return / Z /.test(state) ? "" : readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  await ended;
  clearTimeout(timer);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("there is no free port");
  return address.port;
}

/** Paperclip's pod: it provides the volume for the agents' home and working directory. */
const POD = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "paperclip-0", namespace: "default" },
  spec: {
    containers: [{ name: "paperclip", image: "local/paperclip", volumeMounts: [{ name: "data", mountPath: "/paperclip" }] }],
    volumes: [{ name: "data", persistentVolumeClaim: { claimName: "paperclip-data" } }],
  },
};

/** The files of a folder that agents share with the tests. */
export function filesOf(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}
