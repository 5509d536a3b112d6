/**
 * Reads the files that a run takes with it: the agent's instructions and its skills. Only this machine has them.
 *
 * A file is opened beneath its root only: links are followed, but none leads out of the root.
 */

import { constants } from "node:fs";
import { open, readdir, readlink, realpath, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, sep } from "node:path";

import { messageOf } from "./diagnostic.ts";
import { type JsonObject, type SkillEntry, text } from "./paperclip.ts";

export interface RunFile {
  path: string;
  text?: string;
  base64?: string;
  mode?: number;
}

export interface Collected {
  files: RunFile[];
  /** The entry of the instructions, below `instructions/`. */
  instructionsEntry?: string;
  /** What could not be read, and why. The agent runs without it. */
  warnings: string[];
}

/** The daemon takes 3 MiB; this bound only keeps this process from reading a whole disk. */
const MAX_BYTES = 16 << 20;
const MAX_FILES = 2_000;
const DEFAULT_MODE = 0o644;

/** Collects the files of a run. `home` is Paperclip's home folder, which holds the instructions. */
export class FileCollector {
  readonly collected: Collected = { files: [], warnings: [] };
  private bytes = 0;

  /** Reads the folder of the agent's instructions. */
  async addInstructions(config: JsonObject, home: string): Promise<void> {
    const path = text(config.instructionsFilePath);
    if (path === undefined) return;
    await this.attempt(`instructions ${path}`, async () => {
      const configured = text(config.instructionsRootPath) ?? dirname(path);
      const root = await beneath(home, configured, "Paperclip's home folder");
      const entry = text(config.instructionsEntryFile) ?? relative(configured, path);
      if (!isPlain(entry)) throw new Error(`the entry file ${entry} is outside the folder ${configured}`);
      const before = this.collected.files.length;
      await this.addFolder(root, "instructions");
      if (!this.collected.files.slice(before).some((file) => file.path === `instructions/${entry}`)) {
        throw new Error(`there is no file ${entry} in ${configured}`);
      }
      this.collected.instructionsEntry = entry;
    });
  }

  /** Reads the folders of the skills that the run gets. */
  async addSkills(skills: readonly SkillEntry[]): Promise<void> {
    for (const skill of skills) {
      if (skill.state === "missing") {
        this.collected.warnings.push(`skill ${skill.key}: ${skill.detail ?? "it does not exist"}; the agent runs without it`);
      }
      if (skill.state !== "configured") continue;
      await this.attempt(`skill ${skill.key}`, async () => {
        const name = skill.runtimeName ?? basename(skill.key);
        if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]*$/.test(name)) throw new Error(`${JSON.stringify(name)} cannot be the name of a folder`);
        const source = text(skill.sourcePath);
        if (source === undefined) throw new Error("Paperclip names no folder for it");
        await this.addFolder(await realpath(source), `skills/${name}`);
      });
    }
  }

  private async attempt(what: string, read: () => Promise<void>): Promise<void> {
    try {
      await read();
    } catch (error) {
      this.collected.warnings.push(`${what}: ${messageOf(error)}; the agent runs without it`);
    }
  }

  /** Reads all files below a real folder, in the order of their names. */
  private async addFolder(root: string, to: string): Promise<void> {
    if (!(await stat(root)).isDirectory()) throw new Error("it is not a folder");
    const walk = async (folder: string, path: string, above: readonly string[]): Promise<void> => {
      const entries = await readdir(folder);
      for (const name of entries.sort()) {
        if (name === ".git") continue;
        const from = join(folder, name);
        const as = `${path}/${name}`;
        try {
          const real = await beneath(root, from, "its folder");
          if ((await stat(real)).isDirectory()) {
            if (above.includes(real)) throw new Error("it leads back to a folder above it");
            await walk(real, as, [...above, real]);
          } else {
            await this.addFile(root, real, as);
          }
        } catch (error) {
          this.collected.warnings.push(`${as}: ${messageOf(error)}; it is left out`);
        }
      }
    };
    await walk(root, to, [root]);
  }

  private async addFile(root: string, real: string, as: string): Promise<void> {
    if (this.collected.files.length >= MAX_FILES) throw new Error(`there are more than ${MAX_FILES} files`);
    // Not blocking: a FIFO would be waited for.
    const handle = await open(real, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    try {
      await checkOpened(handle.fd, real, root);
      const facts = await handle.stat();
      if (!facts.isFile()) throw new Error("it is not a file");
      if (this.bytes + facts.size > MAX_BYTES) throw new Error(`the files of a run have more than ${MAX_BYTES} bytes`);
      const content = await handle.readFile();
      this.bytes += content.length;
      const file: RunFile = { path: as, ...encode(content) };
      if ((facts.mode & 0o111) !== 0) file.mode = 0o755;
      else if ((facts.mode & 0o777) !== DEFAULT_MODE) file.mode = DEFAULT_MODE;
      this.collected.files.push(file);
    } finally {
      await handle.close();
    }
  }
}

/** What is open may have been replaced after its path was checked: on Linux the kernel says where it is. */
async function checkOpened(fd: number, real: string, root: string): Promise<void> {
  if (process.platform !== "linux") return;
  const opened = await readlink(`/proc/self/fd/${fd}`).catch(() => real);
  if (!isBeneath(root, opened)) throw new Error("it was replaced by a link that leads out of its folder");
}

/** Returns the real path of a file, if it is beneath a folder. */
async function beneath(folder: string, path: string, name: string): Promise<string> {
  const [root, real] = await Promise.all([realpath(folder), realpath(path)]);
  if (!isBeneath(root, real)) throw new Error(`it is outside ${name} ${folder}`);
  return real;
}

function isBeneath(root: string, real: string): boolean {
  const path = relative(root, real);
  return path !== ".." && !path.startsWith(`..${sep}`) && !isAbsolute(path);
}

function isPlain(path: string): boolean {
  return path !== "" && !isAbsolute(path) && path.split("/").every((part) => part !== ".." && part !== "");
}

function encode(content: Buffer): { text: string } | { base64: string } {
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content) };
  } catch {
    return { base64: content.toString("base64") };
  }
}
