import assert from "node:assert/strict";
import test from "node:test";
import * as tree from "../src/lib/tree.js";

const talk = (...turns) => {
  let made = tree.fresh();
  let at = tree.ROOT;
  for (const [role, content] of turns) [made, at] = tree.add(made, at, { role, content });
  return [made, at];
};
const texts = (made) => tree.path(made).map((node) => node.content);

test("a branch is shown when it is added, and the other stays", () => {
  const [first, answer] = talk(["user", "Hi"], ["assistant", "one"]);
  const question = first.nodes[answer].parent;
  const [second, other] = tree.add(first, question, { role: "assistant", content: "two" });
  assert.deepEqual(texts(second), ["Hi", "two"]);
  assert.deepEqual(texts(tree.turn(second, other, -1)), ["Hi", "one"]);
  assert.deepEqual(texts(tree.turn(second, other, 1)), ["Hi", "two"]); // there is none further
  assert.deepEqual(tree.place(second, answer), { index: 0, count: 2 });
  assert.deepEqual(texts(first), ["Hi", "one"]); // the old one is as it was
});

test("a branch remembers what was shown below it", () => {
  const [first] = talk(["user", "a"], ["assistant", "b"], ["user", "c"]);
  const top = tree.path(first)[0].id;
  const [second, other] = tree.add(first, tree.ROOT, { role: "user", content: "A" });
  assert.deepEqual(texts(second), ["A"]);
  assert.deepEqual(texts(tree.turn(second, other, -1)), ["a", "b", "c"]);
  assert.deepEqual(
    tree.upTo(second, top).map((node) => node.content),
    ["a"],
  );
});

test("what is exported is read back, branches and all", () => {
  let [made, last] = talk(["user", "Hi"], ["assistant", "one"]);
  [made] = tree.add({ ...made, system: "Be short." }, made.nodes[last].parent, {
    role: "assistant",
    content: "two",
    thinking: "hm",
  });
  const [again, ...none] = tree.fromLines(tree.toLines(made).join("\n"));
  assert.equal(none.length, 0);
  assert.equal(again.system, "Be short.");
  assert.deepEqual(texts(again), ["Hi", "two"]);
  assert.equal(tree.path(again)[1].thinking, "hm");
  assert.deepEqual(texts(tree.turn(again, tree.path(again)[1].id, 1)), ["Hi", "one"]);
});

test("a line that is no conversation is named", () => {
  const good = JSON.stringify({ messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }] });
  assert.deepEqual(texts(tree.fromLines(good)[0]), ["Hi"]);
  for (const bad of [
    "nonsense",
    "[]",
    "{}",
    '{"messages": [{"role": "user", "content": 5}]}',
    '{"messages": [{"role": "system", "content": "x"}]}',
    '{"messages": [null]}',
    "null",
  ]) {
    assert.throws(() => tree.fromLines(`${good}\n${bad}`), /Line 2 is no conversation/, bad);
  }
});

test("attached files are fenced by more than they hold", () => {
  const said = tree.spoken({ content: "Read this.", attachments: [{ name: "a.md", text: "```\nx\n```\n" }] });
  assert.equal(said, "Read this.\n\nFile a.md:\n````\n```\nx\n```\n````");
});
