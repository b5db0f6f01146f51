/**
 * Markdown and formulas to a tree of tokens, never to HTML.
 *
 * A model's answer is a stranger's text. Here it is only cut into tokens (by marked's lexer); parts/Markdown.svelte makes an
 * element for each kind it knows. No part of an answer passes an HTML parser, so there is nothing to sanitise.
 */

import { Marked } from "marked";

const block = {
  name: "math",
  level: "block",
  start: (src) => src.match(/\$\$|\\\[/)?.index,
  tokenizer(src) {
    const found = /^(?:\$\$\s*([\s\S]+?)\s*\$\$|\\\[\s*([\s\S]+?)\s*\\\])[ \t]*(?:\n|$)/.exec(src);
    return found ? { type: "math", raw: found[0], text: found[1] ?? found[2], display: true } : undefined;
  },
};

// $5 and $10 is no formula: no blank inside the signs, no digit after them.
const inline = {
  name: "inlineMath",
  level: "inline",
  start: (src) => src.match(/\$|\\\(|\\\[/)?.index,
  tokenizer(src) {
    const found =
      /^\$\$([^$\n]+?)\$\$/.exec(src) ??
      /^\$(?![\s$])((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d)/.exec(src) ??
      /^\\\(([\s\S]+?)\\\)/.exec(src) ??
      /^\\\[([\s\S]+?)\\\]/.exec(src);
    return found ? { type: "math", raw: found[0], text: found[1], display: found[0].startsWith("$$") || found[0].startsWith("\\[") } : undefined;
  },
};

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
