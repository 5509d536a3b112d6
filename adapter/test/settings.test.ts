import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Diagnostic } from "../src/diagnostic.ts";
import { readSettings, showAddress } from "../src/settings.ts";

const HOME = { PAPERCLIP_HOME: "/data" };

describe("settings", () => {
  test("the socket in Paperclip's home is the default", () => {
    const settings = readSettings(HOME);
    assert.equal(showAddress(settings.address), "unix:/data/paperclip-host.sock");
    assert.equal(settings.folder, "/data/instances/default/paperclip-host");
    assert.equal(settings.paperclipUrl, "http://localhost:3100");
    assert.equal(readSettings({ HOME: "/home/p" }).home, "/home/p/.paperclip");
  });

  test("sockets, loopback addresses and HTTPS are accepted", () => {
    for (const [value, shown] of [
      ["unix:/run/host.sock", "unix:/run/host.sock"],
      ["unix:///run/host.sock", "unix:/run/host.sock"],
      ["http://127.0.0.1:7400", "http://127.0.0.1:7400"],
      ["http://[::1]:7400/", "http://[::1]:7400"],
      ["http://localhost:1/", "http://localhost:1"],
      ["https://host.agents.svc/base", "https://host.agents.svc/base"],
    ] as const) {
      assert.equal(showAddress(readSettings({ ...HOME, PAPERCLIP_HOST_URL: value }).address), shown);
    }
  });

  test("the token that a daemon has generated is found, and is for this machine only", () => {
    const file = (environment: Record<string, string>): unknown => {
      const settings = readSettings({ ...HOME, HOME: "/home/p", ...environment });
      return settings.generatedTokenFile;
    };
    const loopback = { PAPERCLIP_HOST_URL: "http://127.0.0.1:7400" };
    assert.equal(file(loopback), "/home/p/.local/state/paperclip-host/token");
    assert.equal(file({ ...loopback, XDG_STATE_HOME: "/state" }), "/state/paperclip-host/token");
    assert.equal(file({ ...loopback, PAPERCLIP_STATE: "/var/lib/host" }), "/var/lib/host/token");
    assert.equal(file({ ...loopback, PAPERCLIP_HOST_TOKEN_FILE: "/token" }), undefined);
    assert.equal(file({ PAPERCLIP_HOST_URL: "https://host.agents.svc" }), undefined);
    assert.equal(file({}), undefined);
  });

  test("an address to which secrets must not be sent is refused with its reason", () => {
    for (const [value, reason] of [
      ["http://10.0.0.1:7400", /plain HTTP/],
      ["http://127.0.0.1.example.com", /plain HTTP/],
      ["http://localhost.example.com", /plain HTTP/],
      ["unix:relative", /absolute/],
      ["ftp://x", /not supported/],
      ["nonsense", /not an address/],
      ["https://user:pw@host", /PAPERCLIP_HOST_TOKEN_FILE/],
      ["https://host/?q", /end with the path/],
    ] as const) {
      assert.throws(
        () => readSettings({ ...HOME, PAPERCLIP_HOST_URL: value }),
        (error) => error instanceof Diagnostic && error.code === "bad_host_url" && reason.test(error.message),
        value,
      );
    }
  });

  test("Paperclip's pod is the one that the environment names, and none is guessed", () => {
    const pod = (environment: Record<string, string>): unknown => readSettings({ ...HOME, ...environment }).paperclipPod;
    assert.equal(pod({ HOSTNAME: "paperclip-0", KUBERNETES_SERVICE_HOST: "10.0.0.1" }), undefined);
    assert.deepEqual(pod({ PAPERCLIP_POD_NAME: "paperclip-0" }), { name: "paperclip-0" });
    assert.deepEqual(pod({ PAPERCLIP_POD_NAME: "paperclip-0", PAPERCLIP_POD_NAMESPACE: "paperclip" }), {
      name: "paperclip-0",
      namespace: "paperclip",
    });
    assert.equal(pod({ PAPERCLIP_POD_NAMESPACE: "paperclip" }), undefined);
  });

  test("the server's address is derived as the server derives it", () => {
    const url = (environment: Record<string, string>): string => readSettings({ ...HOME, ...environment }).paperclipUrl;
    assert.equal(url({ HOST: "0.0.0.0", PORT: "3200" }), "http://localhost:3200");
    assert.equal(url({ HOST: "::1" }), "http://[::1]:3100");
    assert.equal(url({ PAPERCLIP_LISTEN_HOST: "10.0.0.1", PAPERCLIP_LISTEN_PORT: "1" }), "http://10.0.0.1:1");
    assert.equal(url({ PAPERCLIP_API_URL: "https://p.example.com/", PAPERCLIP_RUNTIME_API_URL: "x" }), "https://p.example.com");
  });
});
