/** The records of a run as curves. */

// Counters and clocks: against these one draws, but they are no curves themselves.
const AXES = new Set(["step", "tokens", "elapsed_s", "round", "samples"]);

// What a person wants to see first, in this order.
const FIRST = ["loss_nats", "bits_per_byte", "reward", "solved", "answer_loss_nats", "accuracy"];

/** Return the curves in the records: Map of name → [{x: step, y}], the telling ones first. */
export function curves(records) {
  const found = new Map();
  for (const record of records) {
    for (const [name, value] of Object.entries(record)) {
      if (AXES.has(name) || typeof value !== "number" || !Number.isFinite(value) || typeof record.step !== "number")
        continue;
      if (!found.has(name)) found.set(name, []);
      found.get(name).push({ x: record.step, y: value });
    }
  }
  const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return new Map([...found].filter(([, points]) => points.length).sort(([a], [b]) => rank(a) - rank(b)));
}

/** Return points with y as a moving mean; `weight` of the past, 0 for none. Corrected for its beginning (as in Adam). */
export function smooth(points, weight) {
  let mean = 0;
  let scale = 0;
  return points.map(({ x, y }) => {
    mean = weight * mean + (1 - weight) * y;
    scale = weight * scale + (1 - weight);
    return { x, y: mean / scale };
  });
}

/** Return at most about `most` points: of each stretch its lowest and highest, so that no spike is lost. */
export function thin(points, most) {
  if (points.length <= most) return points;
  const size = Math.ceil((2 * points.length) / most);
  const kept = [points[0]];
  for (let i = 1; i < points.length - 1; i += size) {
    const stretch = points.slice(i, Math.min(i + size, points.length - 1));
    let [low, high] = [stretch[0], stretch[0]];
    for (const point of stretch) {
      if (point.y < low.y) low = point;
      if (point.y > high.y) high = point;
    }
    kept.push(...(low.x < high.x ? [low, high] : low.x > high.x ? [high, low] : [low]));
  }
  return [...kept, points.at(-1)];
}

/** Return round figures between two ends, at most about `count` of them. */
export function ticks(low, high, count = 5) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].find((times) => times * power >= rough) * power;
  const found = [];
  for (let i = Math.ceil(low / size - 1e-9); i * size <= high + size * 1e-9; i += 1)
    found.push(Number((i * size).toPrecision(12)));
  return found;
}

/** "bits_per_byte" → "bits per byte", "elapsed_s" → "elapsed, s": the unit stands at the end of a key. */
export function spoken(key) {
  if (key.endsWith("_per_s")) return key.slice(0, -6).replaceAll("_", " ") + "/s";
  const unit = /^(.*)_(nats|s|bytes)$/.exec(key);
  return unit ? `${unit[1].replaceAll("_", " ")}, ${unit[2]}` : key.replaceAll("_", " ");
}
