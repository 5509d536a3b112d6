import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Lines } from "../src/lines.ts";
import { pieces } from "../src/pieces.ts";

describe("pieces", () => {
  test("joined again they are the lines, and none is too long for the server", () => {
    const lines = ["a", "", "word ".repeat(40_000), "😀 ".repeat(50_000), "b", "token".repeat(60_000), "c"];
    const cut = pieces(lines);
    assert.equal(cut.join(""), lines.map((line) => `${line}\n`).join(""));
    assert.ok(cut.every((piece) => piece.length <= 60_000));
  });

  test("a line with an unbroken run is cut small, whatever it holds", () => {
    const cut = pieces([`{"token":"${"x".repeat(300_000)}"}`]);
    assert.ok(cut.every((piece) => piece.length <= 2_048));
  });

  test("many short lines are one piece", () => {
    assert.equal(pieces(Array.from({ length: 1_000 }, (_, index) => `line ${index}`)).length, 1);
  });

  test("no character is cut in two", () => {
    const line = `x${"😀".repeat(40_000)}`;
    for (const piece of pieces([line])) assert.ok(piece.isWellFormed());
  });
});

describe("lines", () => {
  test("characters that are cut between chunks stay whole", () => {
    const bytes = Buffer.from("ä€😀\n\nlast\nunfinished");
    for (let size = 1; size < bytes.length; size += 1) {
      const lines = new Lines(1_000);
      const found: string[] = [];
      for (let at = 0; at < bytes.length; at += size) found.push(...lines.push(bytes.subarray(at, at + size)));
      assert.deepEqual(found, ["ä€😀", "last"]);
    }
  });

  test("a line beyond the limit is an error", () => {
    assert.throws(() => new Lines(4).push(Buffer.from("12345")), /longer than 4 bytes/);
  });
});
