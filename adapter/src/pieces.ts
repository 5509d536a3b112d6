/**
 * Cuts output into the pieces in which the server takes it.
 *
 * The server (2026.916.1) cuts a piece of more than 65,536 characters in its middle, which breaks JSON. It searches each piece for secrets
 * with an expression whose time is quadratic in the length of an unbroken run of letters, digits, `_` and `-`: 64 kB take 31 s of its only
 * thread. Pieces without a line feed are joined again by its UI.
 */

const MAX_CHARS = 60_000;
/** The longest piece of a line that has such a run. */
const MAX_CHARS_OF_SLOW = 2_048;
/** A run of this length costs well under a millisecond. */
const SLOW_RUN = /[\w-]{256}/;

/** Collects lines of one stream, and returns pieces of them. Lines are joined while they fit; none is reordered. */
export function pieces(lines: readonly string[]): string[] {
  const found: string[] = [];
  let joined = "";
  const flush = (): void => {
    if (joined !== "") found.push(joined);
    joined = "";
  };
  for (const line of lines) {
    const whole = `${line}\n`;
    if (SLOW_RUN.test(line)) {
      flush();
      found.push(...cut(whole, MAX_CHARS_OF_SLOW));
    } else if (whole.length > MAX_CHARS) {
      flush();
      found.push(...cut(whole, MAX_CHARS));
    } else {
      if (joined.length + whole.length > MAX_CHARS) flush();
      joined += whole;
    }
  }
  flush();
  return found;
}

/** Cuts a text into pieces of at most so many UTF-16 units, never within a character. */
function cut(value: string, most: number): string[] {
  const found: string[] = [];
  let start = 0;
  while (start < value.length) {
    let end = Math.min(start + most, value.length);
    if (end < value.length && isHighSurrogate(value.charCodeAt(end - 1))) end -= 1;
    found.push(value.slice(start, end));
    start = end;
  }
  return found;
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}
