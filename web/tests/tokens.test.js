import assert from "node:assert/strict";
import test from "node:test";
import { alternatives, bits, branchAt, cellReader, idsOf, spelled, step, visible } from "../src/lib/tokens.js";

const token = (bytes, logprob = Math.log(0.5), others = []) => {
  const list = typeof bytes === "string" ? [...new TextEncoder().encode(bytes)] : bytes;
  return { id: null, text: new TextDecoder().decode(new Uint8Array(list)), bytes: list, logprob, others };
};
const [first, second] = [[0xc3], [0xa9]]; // é, in halves

test("a coin's toss is one bit, and steps double", () => {
  assert.equal(bits({ logprob: Math.log(0.5) }), 1);
  assert.equal(bits({ logprob: 1e-9 }), 0); // rounding must not make a surprise negative
  assert.deepEqual([0, 0.5, 1.5, 3, 7.9, 8, 99].map(step), [0, 1, 2, 3, 4, 5, 5]);
});

test("halves of a character are one cell, and bytes that are none are shown", () => {
  const told = (tokens) => cellReader()(tokens).map((cell) => [cell.text, cell.from, cell.tokens.length]);
  assert.deepEqual(told([token("caf"), token(first), token(second), token("!")]), [
    ["caf", 0, 1],
    ["é", 1, 2],
    ["!", 3, 1],
  ]);
  assert.deepEqual(told([token([0xff]), token("a")]), [
    ["�", 0, 1],
    ["a", 1, 1],
  ]);
  assert.equal(cellReader()([token(first), token(second)])[0].surprise, 2); // a bit each
});

test("a branch holds what stood before and the token that was chosen", () => {
  const tokens = [token("The"), token(" cat"), token(" sat")];
  const begun = branchAt(tokens, 1, token(" dog"));
  assert.equal(begun.text, "The dog");
  assert.deepEqual(
    begun.tokens.map((one) => one.text),
    ["The", " dog"],
  );
  assert.equal(branchAt(tokens, 1, token(first)), null); // half a character is no message …
  const known = tokens.map((one, id) => ({ ...one, id }));
  const half = branchAt(known, 1, { ...token(first), id: 9 });
  assert.deepEqual([half.text, idsOf(half.tokens)], ["The", [0, 9]]); // … but ids can say it
  assert.equal(spelled([...half.tokens, token(second)]), "Theé");
  assert.equal(branchAt([token(first), token(second)], 1, token(second)).text, "é");
});

test("the taken token is always among the alternatives, once", () => {
  const likely = [token("a", Math.log(0.6)), token("b", Math.log(0.3))];
  assert.deepEqual(
    alternatives(token("b", Math.log(0.3), likely)).map((o) => o.taken),
    [false, true],
  );
  assert.deepEqual(
    alternatives(token("z", Math.log(0.01), likely)).map((o) => o.taken),
    [false, false, true],
  );
});

test("blanks can be seen", () => {
  assert.equal(visible(" the"), "␣the");
  assert.equal(visible("\n\n"), "↵↵");
  assert.equal(visible("a b"), "a b");
  assert.equal(visible("  "), "␣␣");
});

test("cells of tokens that grow are those of the whole, and old ones are the same objects", () => {
  const tokens = [..."Grüße, 世界! 🦊."].flatMap((sign) =>
    [...new TextEncoder().encode(sign)].map((byte) => token([byte])),
  );
  const read = cellReader();
  const plain = (list) => list.map(({ text, from }) => [text, from]);
  for (let end = 1; end <= tokens.length; end += 1) {
    assert.deepEqual(plain(read(tokens.slice(0, end))), plain(cellReader()(tokens.slice(0, end))), `after ${end}`);
  }
  const [first] = read(tokens);
  assert.equal(read([...tokens, token("x")])[0], first);
  assert.deepEqual(plain(read([token("b"), ...tokens])), plain(cellReader()([token("b"), ...tokens])));
});
