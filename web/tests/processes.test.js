import assert from "node:assert/strict";
import { test } from "node:test";
import { brief, called, filled, flows, told } from "../src/lib/processes.js";

test("an event that says nothing to people is left out", () => {
  assert.equal(told({ kind: "began", body: {} }), null);
  assert.equal(told({ kind: "decided", body: { verdict: "allow", inside: "" } }), null);
  assert.equal(told({ kind: "memory", body: { tick: 3 } }), null);
});

test("a denied call says why, and a failed one is marked", () => {
  const denied = told({ kind: "decided", body: { verdict: "deny", inside: "", reason: "No capability." } });
  assert.deepEqual([denied.title, denied.detail, denied.wrong], ["denied", "No capability.", true]);
  const body = { error: "no", label: { sources: ["web:x"] }, page: { text: "error: no", hidden: true }, files: [] };
  assert.equal(told({ kind: "returned", body }).title, "Failed from web:x, hidden from it");
});

test("an event of a kind that is not known is shown as it is", () => {
  assert.equal(told({ kind: "danced", body: { a: 1 } }).detail, '{"a":1}');
});

test("values are cut, and calls read as calls", () => {
  assert.equal(brief("a  b\nc"), "a b c");
  assert.equal(brief("x".repeat(200)).length, 90);
  assert.equal(called("add", { a: 1, b: "two" }), "add(a=1, b=two)");
});

test("what flows is shown as the policy says it, else the arguments", () => {
  const where = [{ argument: "to", value: "a@b", from: ["user"], trusted: true, for: null }];
  const what = [{ argument: "text", value: "hi", from: ["web:x"], trusted: false, for: ["user"] }];
  const shown = flows({ shows: { function: "f", where, what }, arguments: {} });
  assert.equal(shown.where[0].argument, "to");
  assert.deepEqual(shown.what[0].readers, ["user"]);
  assert.deepEqual(flows({ shows: {}, arguments: { a: 1 } }).what, [{ argument: "a", value: 1 }]);
});

test("the map of the memory never exceeds the window", () => {
  const rows = [
    { place: "in", tokens: 60 },
    { place: "out", tokens: 500 },
    { place: "back", tokens: 60 },
  ];
  const map = filled(rows, 100);
  assert.equal(map.used, 120);
  assert.equal(
    map.parts.reduce((sum, { share }) => sum + share, 0),
    100,
  );
});
