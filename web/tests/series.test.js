import assert from "node:assert/strict";
import test from "node:test";
import { curves, smooth, spoken, thin, ticks } from "../src/lib/series.js";

test("curves are the numbers of the records, the telling ones first", () => {
  const found = curves([
    { step: 1, lr_scale: 1, loss_nats: 4, tokens: 10, why: "text" },
    { step: 2, loss_nats: null, bits_per_byte: 2.5 },
    { loss_nats: 9 }, // belongs to no step
  ]);
  assert.deepEqual([...found.keys()], ["loss_nats", "bits_per_byte", "lr_scale"]);
  assert.deepEqual(found.get("loss_nats"), [{ x: 1, y: 4 }]);
});

test("a mean of what does not change is that", () => {
  assert.deepEqual(
    smooth(
      [
        { x: 1, y: 3 },
        { x: 2, y: 3 },
      ],
      0.9,
    ).map(({ y }) => Math.round(y * 1e9) / 1e9),
    [3, 3],
  );
});

test("thinning keeps the ends and the spike", () => {
  const points = Array.from({ length: 10000 }, (_, x) => ({ x, y: x === 5000 ? 99 : Math.sin(x) }));
  const kept = thin(points, 200);
  assert.ok(kept.length <= 210);
  assert.deepEqual([kept[0].x, kept.at(-1).x], [0, 9999]);
  assert.ok(kept.some(({ y }) => y === 99));
});

test("ticks are round and within", () => {
  assert.deepEqual(ticks(0, 100, 5), [0, 20, 40, 60, 80, 100]);
  assert.deepEqual(ticks(2.9, 3.14, 4), [2.9, 3, 3.1]);
  assert.deepEqual(ticks(5, 5), [5]);
});

test("keys are spoken with their unit", () => {
  assert.equal(spoken("loss_nats"), "loss, nats");
  assert.equal(spoken("tokens_per_s"), "tokens/s");
  assert.equal(spoken("bits_per_byte"), "bits per byte");
});
