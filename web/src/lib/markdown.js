/**
 * Markdown and formulas to a tree of tokens, never to HTML.
 *
 * A model's answer is a stranger's text. Here it is only cut into tokens (by marked's lexer); parts/Markdown.svelte makes an
 * element for each kind it knows. No part of an answer passes an HTML parser, so there is nothing to sanitise.
 */

import { Marked } from "marked";

const LONGEST = 4000; // characters of a formula; also what keeps the search for its end short

/** Return {raw, text} where `src` begins with a formula between these signs, else null. No backtracking, whatever comes. */
function between(src, open, close) {
  if (!src.startsWith(open)) return null;
  const end = src.slice(0, LONGEST).indexOf(close, open.length);
  const text = src.slice(open.length, end).trim();
  return end < 0 || !text ? null : { raw: src.slice(0, end + close.length), text };
}

const block = {
  name: "math",
  level: "block",
  start: (src) => src.match(/\$\$|\\\[/)?.index,
  tokenizer(src) {
    const found = between(src, "$$", "$$") ?? between(src, "\\[", "\\]");
    const after = found && /^[ \t]*(?:\n|$)/.exec(src.slice(found.raw.length, found.raw.length + 80));
    return after ? { type: "math", raw: found.raw + after[0], text: found.text, display: true } : undefined;
  },
};

const inline = {
  name: "inlineMath",
  level: "inline",
  start: (src) => src.match(/\$|\\[([]/)?.index,
  tokenizer(src) {
    const wide = between(src, "$$", "$$") ?? between(src, "\\[", "\\]");
    if (wide) return { type: "math", ...wide, display: true };
    const narrow = between(src, "\\(", "\\)") ?? dollars(src);
    return narrow ? { type: "math", ...narrow, display: false } : undefined;
  },
};

/** A formula between single $: on one line, no blank inside the signs, no digit after them: $5 and $10 is none. */
function dollars(src) {
  const found = /^\$(?![\s$])((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d)/.exec(src.slice(0, 400));
  return found && { raw: found[0], text: found[1] };
}

const marked = new Marked({ gfm: true });
marked.use({ extensions: [block, inline] });

/**
 * Return the block tokens of a Markdown text. Never throws: what cannot be read is one paragraph of text.
 *
 * `breaks`: a line end is one, as in a poem. Models end lines only where they mean it; files are wrapped.
 */
export function lex(text, breaks = true) {
  try {
    return marked.lexer(text, { ...marked.defaults, breaks });
  } catch {
    return [{ type: "paragraph", raw: text, tokens: [{ type: "text", raw: text, text }] }];
  }
}

/**
 * Return a function that lexes a text that grows: only what stands after the last finished block is read anew.
 *
 * The blocks before keep their objects, so the page need not look at them again. What differs from reading the whole: a link
 * whose address is given much further down stays text.
 */
export function growing(breaks = true) {
  let done = []; // finished blocks: all but the last two, since a list may go on after a blank line
  let before = ""; // their text
  return (text) => {
    if (!text.startsWith(before)) [done, before] = [[], ""];
    const rest = text.slice(before.length);
    const tail = lex(rest, breaks);
    const tokens = [...done, ...tail];
    const finished = tail.slice(0, -2);
    const raw = finished.map((token) => token.raw).join("");
    if (finished.length && rest.startsWith(raw)) [done, before] = [[...done, ...finished], before + raw];
    return tokens;
  };
}

/** Return an address if following it does no harm, else null. */
export function safeLink(href) {
  try {
    const url = new URL(href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null; // relative ones too: an answer has no place that it could be relative to
  }
}

const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

/** Return text with the entities that Markdown knows resolved; the result is set as text, never parsed. */
export function unescapeText(text) {
  return text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(amp|lt|gt|quot|apos|nbsp));/gi, (whole, decimal, hex, name) => {
    if (name) return NAMED[name.toLowerCase()];
    const point = decimal ? Number(decimal) : parseInt(hex, 16);
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : whole;
  });
}
