/**
 * What the lens shows: tokens as cells of text, how surprising each was, and where an answer can be cut.
 */

/** Upper ends of the steps of surprise, in bits; the last step has none. Doubling, as surprise is a logarithm. */
export const STEPS = [0.5, 1, 2, 4, 8];

/** Return the surprise of a token in bits: 0 for one that had to come, 1 for the toss of a coin. */
export const bits = (token) => Math.max(0, -token.logprob / Math.LN2);

/** Return the step of a surprise, 0 (expected) to 5 (astonishing). */
export function step(surprise) {
  const found = STEPS.findIndex((end) => surprise < end);
  return found < 0 ? STEPS.length : found;
}

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

/** Return the text of bytes, or null when they end in the middle of a character. */
export function decode(bytes) {
  try {
    return strict.decode(new Uint8Array(bytes));
  } catch {
    return null;
  }
}

/**
 * Return tokens as cells {text, from, to}: one token each, but several where a character is spread over them.
 * Bytes that never become a character are shown as �.
 */
export function cells(tokens) {
  const found = [];
  for (let from = 0; from < tokens.length;) {
    let to = from + 1;
    let held = [...tokens[from].bytes];
    let text = decode(held);
    while (text === null && to < tokens.length && to - from < 4) {
      held = held.concat(tokens[to].bytes);
      text = decode(held);
      to += 1;
    }
    if (text === null) [text, to] = [lenient.decode(new Uint8Array(tokens[from].bytes)), from + 1];
    found.push({ text, from, to });
    from = to;
  }
  return found;
}

/** Return the text that tokens spell; half a character at their end is left out, as its other half may come. */
export function spelled(tokens) {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(tokens.flatMap((token) => token.bytes)), {
    stream: true,
  });
}

/** Return the ids of tokens, or null when the server did not tell all of them. */
export function idsOf(tokens) {
  return tokens.length && tokens.every((token) => token.id != null) ? tokens.map((token) => token.id) : null;
}

/**
 * Return the answer's beginning if at `index` the token `other` had been taken: {text, tokens}. Null when that would end
 * in half a character and ids are not known: no message can hold that.
 */
export function branchAt(tokens, index, other) {
  const taken = [...tokens.slice(0, index), { ...other, others: tokens[index].others }];
  const half = decode(taken.flatMap((token) => token.bytes)) === null;
  return half && !idsOf(taken) ? null : { text: spelled(taken), tokens: taken };
}

/** Return the alternatives at a token, the taken one always among them: [{text, bytes, logprob, taken}]. */
export function alternatives(token) {
  const list = token.others.map((other) => ({ ...other, taken: same(other.bytes, token.bytes) }));
  if (!list.some((other) => other.taken)) {
    list.push({ text: token.text, bytes: token.bytes, logprob: token.logprob, taken: true });
  }
  return list;
}

/** Return a token's text so that it can be read in a list: blanks and line ends as signs. */
export function visible(text) {
  return text
    .replaceAll("\n", "↵")
    .replaceAll("\t", "⇥")
    .replace(/^ +| +$|  +/g, (blanks) => "␣".repeat(blanks.length));
}

/** Return the mean surprise of an answer in bits per token, or null without tokens. */
export function meanBits(tokens) {
  return tokens?.length ? tokens.reduce((sum, token) => sum + bits(token), 0) / tokens.length : null;
}
