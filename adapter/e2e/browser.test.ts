/** What a person sees of this product in Paperclip, in Chromium. Each check leaves a screenshot. */

import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { after, before, describe, test } from "node:test";

import { type Browser, launch, type Page } from "puppeteer-core";

import type { Agent } from "./paperclip.ts";
import { variable, World } from "./world.ts";

const WAIT_MS = 60_000;

describe("in the browser", () => {
  let world: World;
  let browser: Browser;
  const screenshots = variable("E2E_SCREENSHOTS");
  before(async () => {
    mkdirSync(screenshots, { recursive: true });
    // Chromium's own sandbox needs namespaces that containers do not have; only the server of this stage is opened.
    browser = await launch({ executablePath: chromium(), headless: true, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
    world = await World.start("browser");
  });
  after(async () => {
    await browser.close();
    await world.end();
  });

  const open = async (path: string): Promise<Page> => {
    const page = await browser.newPage();
    await page.setViewport({ width: 1400, height: 1000 });
    await page.goto(`${world.stage.url}/${world.prefix}/${path}`, { waitUntil: "domcontentloaded" });
    return page;
  };
  const shoot = async (page: Page, name: string): Promise<void> => {
    await page.screenshot({ path: join(screenshots, `${name}.png`) });
  };
  const runPage = (agent: Agent, run: string): Promise<Page> => open(`agents/${agent.urlKey ?? agent.id}/runs/${run}`);

  test("the form has the fields of this agent type, and the environment test shows its result", async () => {
    const agent = await world.agent({});
    const page = await open(`agents/${agent.urlKey ?? agent.id}/runtime`);
    await sees(page, "Log format");
    await sees(page, "Claude K8s");
    await shoot(page, "form");
    await click(page, "Run test");
    // What the test found is checked in runs.test.ts.
    await sees(page, "Test again");
    await sees(page, "Test details");
    await shoot(page, "environment-test");
    await page.close();
  });

  test("the log of a run appears while it runs, as text", async () => {
    const agent = await world.agent({ lines: 20, pauseMs: 500 });
    const { run } = await world.task(agent);
    const page = await runPage(agent, run.id);
    await sees(page, "line 3 of run");
    assert.equal((await world.paperclip.run(run.id)).status, "running");
    await shoot(page, "live-log");
    await sees(page, "line 19 of run");
    await page.close();
  });

  test("an error is shown with its remedy", async () => {
    const agent = await world.agent({}, { timeoutSec: -1 });
    const { run } = await world.done(agent);
    assert.equal(run.errorCode, "k8s_config_invalid");
    const page = await runPage(agent, run.id);
    await sees(page, "timeoutSec");
    await sees(page, "k8s_config_invalid");
    await shoot(page, "error");
    await page.close();
  });

  test("a run is cancelled by its button", async () => {
    const agent = await world.agent({ hang: true, close: null });
    const { run } = await world.task(agent);
    await world.working(run.id);
    const page = await runPage(agent, run.id);
    await sees(page, "line 2 of run");
    await click(page, "Cancel");
    await shoot(page, "cancel-asked");
    const ended = await world.paperclip.ended(run.id, 30_000);
    assert.equal(ended.status, "cancelled");
    assert.equal(world.isAlive(run.id), false);
    await sees(page, "cancelled");
    await shoot(page, "cancelled");
    await page.close();
  });

  test("the override shows the server's own transcript", async () => {
    await world.paperclip.post("adapters/install", { packageName: world.stage.adapter("claude_local"), isLocalPath: true });
    const recording = world.stage.recording("claude-cli-2.1.330/tool.ndjson");
    const agent = await world.agent({ recording, pauseMs: 20 }, {}, {}, "claude_local");
    const { run } = await world.done(agent);
    assert.equal(run.status, "succeeded", run.error ?? "");
    const page = await runPage(agent, run.id);
    await sees(page, "Let me look — naïve café ☕.");
    await sees(page, "Executed command");
    const text = await page.evaluate(() => document.body.innerText);
    assert.ok(!text.includes('"tool_use_id"'), "the agent's JSON is not shown as it is");
    await shoot(page, "override-transcript");
    await page.close();
  });
});

/** Waits until a page shows a text. */
async function sees(page: Page, text: string): Promise<void> {
  try {
    await page.waitForFunction((expected) => document.body.innerText.toLowerCase().includes(expected), { timeout: WAIT_MS }, text.toLowerCase());
  } catch {
    const shown = await page.evaluate(() => document.body.innerText);
    assert.fail(`the page does not show ${JSON.stringify(text)}, but:\n${shown.slice(0, 3_000)}`);
  }
}

/** Clicks the button whose label starts with a text. */
async function click(page: Page, label: string): Promise<void> {
  const path = `xpath///button[starts-with(normalize-space(.), "${label}") and not(@disabled)]`;
  try {
    const button = await page.waitForSelector(path, { timeout: WAIT_MS });
    await button?.click();
  } catch {
    const labels = await page.$$eval("button", (buttons) => buttons.map((button) => button.innerText.trim()).filter((text) => text !== ""));
    assert.fail(`the page has no button ${JSON.stringify(label)}, but: ${labels.join(", ")}`);
  }
}

function chromium(): string {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const found = folders.flatMap((folder) => [join(folder, "chromium"), join(folder, "google-chrome")]).find((path) => existsSync(path));
  if (found === undefined) throw new Error("Chromium is not on PATH: install it, such as by `apt-get install chromium`");
  return found;
}
