import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Daemon } from "../src/daemon.ts";
import { readSettings } from "../src/settings.ts";

describe("HTTPS", () => {
  let folder: string;
  let server: https.Server;
  let url: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "https-"));
    const [key, certificate] = [join(folder, "key"), join(folder, "ca")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate];
    execFileSync("openssl", [...request, ...subject], { stdio: "ignore" });
    server = https.createServer({ key: await readFile(key), cert: await readFile(certificate) }, (request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ api: "1", host: request.url, features: [] }));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    url = `https://localhost:${(server.address() as AddressInfo).port}/behind/a/proxy`;
  });
  after(async () => {
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true });
  });

  test("an authority of one's own is trusted if it is named, and the path of a proxy is kept", async () => {
    const settings = readSettings({ PAPERCLIP_HOME: folder, PAPERCLIP_HOST_URL: url, PAPERCLIP_HOST_CA_FILE: join(folder, "ca") });
    assert.equal((await new Daemon(settings).version()).host, "/behind/a/proxy/v1/version");
  });

  test("a certificate of an unknown authority is refused", async () => {
    const settings = readSettings({ PAPERCLIP_HOME: folder, PAPERCLIP_HOST_URL: url });
    await assert.rejects(new Daemon(settings).version(), /does not answer at https:.*self-signed certificate/);
  });

  test("a certificate file that cannot be read is named", async () => {
    const settings = readSettings({ PAPERCLIP_HOME: folder, PAPERCLIP_HOST_URL: url, PAPERCLIP_HOST_CA_FILE: "/nowhere" });
    await assert.rejects(new Daemon(settings).version(), /the file of PAPERCLIP_HOST_CA_FILE cannot be read/);
  });
});

describe("tokens", () => {
  let folder: string;
  let server: http.Server;
  let environment: Record<string, string>;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "token-"));
    server = http.createServer((request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ api: "1", host: request.headers.authorization ?? "none", features: [] }));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    environment = { PAPERCLIP_HOME: folder, PAPERCLIP_HOST_URL: url, PAPERCLIP_STATE: folder };
  });
  after(async () => {
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true });
  });
  const sent = async (): Promise<string> => (await new Daemon(readSettings(environment)).version()).host;

  test("the daemon's generated token is sent when there is one, and the first of two", async () => {
    assert.equal(await sent(), "none");
    await writeFile(join(folder, "token"), "0123456789abcdef\n");
    assert.equal(await sent(), "Bearer 0123456789abcdef");
    await writeFile(join(folder, "token"), "fedcba9876543210\n0123456789abcdef\n");
    assert.equal(await sent(), "Bearer fedcba9876543210");
  });
});
