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
 * Return a function that returns tokens as cells {text, tokens, from, surprise, probability}: one token each, but several
 * where a character is spread over them. Bytes that never become a character are shown as �.
 *
 * For tokens that grow: cells that are as they were are the same objects, so the page need not look at them again.
 */
export function cellReader() {
  let known = [];
  return (tokens) => {
    const held = ({ tokens: mine, from }) => mine.every((token, i) => token === tokens[from + i]);
    const differs = known.findIndex((cell) => !held(cell));
    // The last few may wait for the rest of a character.
    const kept = known.slice(0, Math.min(differs < 0 ? known.length : differs, Math.max(0, known.length - LONGEST)));
    const begin = kept.length ? kept.at(-1).from + kept.at(-1).tokens.length : 0;
    known = [...kept, ...cells(tokens, begin)];
    return known;
  };
}

const LONGEST = 4; // bytes of a character, so tokens of one

function cells(tokens, begin) {
  const found = [];
  for (let from = begin; from < tokens.length;) {
    let size = 1;
    let text = decode(tokens[from].bytes);
    while (text === null && from + size < tokens.length && size < LONGEST) {
      size += 1;
      text = decode(tokens.slice(from, from + size).flatMap((token) => token.bytes));
    }
    if (text === null) [text, size] = [lenient.decode(new Uint8Array(tokens[from].bytes)), 1];
    const mine = tokens.slice(from, from + size);
    const logprob = mine.reduce((sum, token) => sum + token.logprob, 0);
    found.push({ text, tokens: mine, from, surprise: bits({ logprob }), probability: Math.exp(logprob) });
    from += size;
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
