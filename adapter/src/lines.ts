/** Splits a stream of bytes into lines. A character that is cut between two chunks stays whole. */

const LINE_FEED = 0x0a;

export class Lines {
  private readonly parts: Buffer[] = [];
  private bytes = 0;
  private readonly maxBytes: number;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /**
   * Takes the next chunk, and returns the lines that it completes, without blank ones.
   *
   * @throws Error if a line is longer than the limit.
   */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(LINE_FEED, start);
      if (end === -1) break;
      this.parts.push(chunk.subarray(start, end));
      const line = Buffer.concat(this.parts).toString("utf8");
      this.parts.length = 0;
      this.bytes = 0;
      if (line.trim() !== "") lines.push(line);
      start = end + 1;
    }
    if (start < chunk.length) {
      const rest = chunk.subarray(start);
      this.bytes += rest.length;
      if (this.bytes > this.maxBytes) throw new Error(`a line is longer than ${this.maxBytes} bytes`);
      this.parts.push(rest);
    }
    return lines;
  }
}
