import assert from "node:assert/strict";
import test from "node:test";
import { growing, lex, safeLink, unescapeText } from "../src/lib/markdown.js";

const kinds = (text) =>
  lex(text)
    .filter((token) => token.type !== "space")
    .map((token) => token.type);
const inline = (text) => lex(text)[0].tokens.map((token) => [token.type, token.text]);

test("formulas are told from money", () => {
  assert.deepEqual(inline("It costs $5 and $10."), [["text", "It costs $5 and $10."]]);
  assert.deepEqual(inline("so $x^2$ holds"), [
    ["text", "so "],
    ["math", "x^2"],
    ["text", " holds"],
  ]);
  assert.deepEqual(inline("so \\(a_1\\) holds")[1], ["math", "a_1"]);
  assert.deepEqual(kinds("$$\na = b\n$$\nText"), ["math", "paragraph"]);
  assert.deepEqual(kinds("\\[\na = b\n\\]"), ["math"]);
  assert.deepEqual(kinds("```\n$x$\n```"), ["code"]);
});

test("an answer that is still coming is read as far as it goes", () => {
  for (const part of ["```py", "| a | b |\n|--", "**bold", "[a](http", "$$x", "- ", "<scr", "1. a\n  - "])
    assert.ok(Array.isArray(lex(part)), part);
});

test("only addresses that do no harm are links", () => {
  for (const bad of [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "file:///etc",
    "/relative",
    "//host/x",
    "blob:x",
    "\u0001javascript:x",
  ]) {
    assert.equal(safeLink(bad), null, bad);
  }
  assert.equal(safeLink("https://example.org/a?b#c"), "https://example.org/a?b#c");
});

test("entities become characters, once", () => {
  assert.equal(
    unescapeText("&lt;b&gt; &amp;lt; &#65;&#x42; &nbsp;&unknown; &#0; &#1114112;"),
    "<b> &lt; AB \u00a0&unknown; &#0; &#1114112;",
  );
});

test("nesting without end does not stop the page", () => {
  for (const deep of [
    ">".repeat(3000) + "x",
    "- ".repeat(1000) + "x",
    "*".repeat(9000),
    "[".repeat(9000),
    "$".repeat(4000),
    "$$" + " ".repeat(4000),
    "\\(".repeat(2000),
    "$$\n" + "\n".repeat(9000),
  ]) {
    assert.ok(lex(deep).length >= 1);
  }
});

test("a text that grows is read as the whole would be", () => {
  const whole =
    "# A\n\nOne\ntwo\n\n- a\n- b\n\n- c\n\n```py\nx\n\ny\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\n\n$$\nx\n$$\n\nend";
  const plain = (tokens) => tokens.map(({ type, raw }) => [type, raw]);
  const read = growing();
  for (let end = 1; end <= whole.length; end += 3)
    assert.deepEqual(plain(read(whole.slice(0, end))), plain(lex(whole.slice(0, end))), `after ${end}`);
  const first = read(whole)[0];
  assert.equal(read(whole + " more")[0], first); // the same object: nothing to draw again
  assert.deepEqual(plain(read("another")), plain(lex("another")));
});
