/** Processes in words: what an event says to a person, and how far a text is trusted. */

/** Who had a part in a text, by its ring: the higher, the less it is trusted. */
export const RINGS = ["the system", "the app", "you", "others"];

const line = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** A value on one line, cut where it is long. */
export function brief(value, most = 90) {
  const text = (line(value) ?? "").replace(/\s+/g, " ").trim();
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

/** A call as a person writes it: name(argument=value, …). */
export const called = (name, given) =>
  `${name}(${Object.entries(given ?? {})
    .map(([key, value]) => `${key}=${brief(value, 60)}`)
    .join(", ")})`;

const from = (label) => (label?.sources?.length ? ` from ${label.sources.join(", ")}` : "");

/**
 * An event of a process as an item of its trace: {kind, title, text, calls, detail, wrong, label}, or null where
 * it says nothing to people. `text` is said by somebody; `detail` is what can be unfolded.
 */
export function told({ kind, body }) {
  switch (kind) {
    case "spawned":
      return { kind: "user", title: "Task", text: body.program.message };
    case "told":
      return { kind: "user", title: "You", text: body.page.text };
    case "said":
      return {
        kind: "said",
        title: "It says",
        text: body.text,
        calls: body.calls.map(({ name, arguments: given }) => called(name, given)),
        detail: body.page?.message?.reasoning_content,
      };
    case "decided": {
      if (body.verdict === "allow" && !body.inside) return null;
      const what = body.inside ? `${called(body.name, body.arguments)}: ` : "";
      const verdicts = { allow: "allowed", ask: "asks you", deny: "denied" };
      return {
        kind: "note",
        title: `${what}${verdicts[body.verdict] ?? body.verdict}`,
        detail: body.reason,
        open: true,
        wrong: body.verdict === "deny",
      };
    }
    case "asked":
      return { kind: "note", title: "It asks", detail: body.text, open: true };
    case "approved":
      return {
        kind: "note",
        title: { no: "You said no" }[body.grant] ?? `You allowed it ${GRANTED[body.grant] ?? body.grant}`,
      };
    case "answered":
      return { kind: "user", title: "You", text: body.text };
    case "returned":
      return {
        kind: "returned",
        title: `${body.error ? "Failed" : "Returned"}${from(body.label)}${body.page?.hidden ? ", hidden from it" : ""}`,
        detail: body.page?.text ?? line(body.value) ?? "",
        wrong: Boolean(body.error),
        label: body.label,
        files: body.files,
      };
    case "waits":
      return { kind: "note", title: `It waits for process ${body.child}`, child: body.child };
    case "forked":
      return { kind: "note", title: `Forked from process ${body.parent} after event ${body.at}`, child: body.parent };
    case "revealed":
      return { kind: "note", title: `It reads ${body.page} from now on, and is tainted by it` };
    case "stopped":
      return { kind: "note", title: `Stopped: ${body.reason}` };
    case "resumed":
      return { kind: "note", title: "It goes on" };
    case "exited":
      return { kind: "note", title: body.reason === "done" ? "Done" : `Ended: ${body.reason}` };
    case "memory": {
      const parts = [
        ["out", "left the window"],
        ["back", "came back"],
        ["pin", "pinned"],
        ["unpin", "unpinned"],
        ["edit", "changed"],
      ]
        .map(([key, done]) => [Array.isArray(body[key]) ? body[key] : Object.keys(body[key] ?? {}), done])
        .filter(([names]) => names.length);
      if (!parts.length) return null;
      const title = parts.map(([names, done]) => `${names.length > 3 ? names.length : names.join(", ")} ${done}`);
      return { kind: "note", title: `Memory: ${title.join("; ")}` };
    }
    case "began":
    case "heard":
      return null;
    default:
      return { kind: "note", title: kind, detail: brief(body, 400) };
  }
}

const GRANTED = { once: "once", process: "for this process", always: "for ever" };

/** What buttons say for the answers to a question. */
export const ANSWERS = {
  once: "Allow once",
  process: "For this process",
  always: "For ever",
  no: "No",
  again: "Make it again",
  done: "It was done",
  drop: "Drop it",
};

/**
 * What a call would let flow, as rows {argument, value, from, trusted, readers}: "where" it goes and "what" goes
 * there. A policy that shows less than that gives rows of what it shows, or of the arguments.
 */
export function flows({ shows, arguments: given }) {
  const row = ({ argument, value, from: sources, trusted, for: readers }) => ({
    argument,
    value,
    from: sources,
    trusted,
    readers,
  });
  if (Array.isArray(shows?.where) && Array.isArray(shows?.what)) {
    return { where: shows.where.map(row), what: shows.what.map(row) };
  }
  const rows = Object.entries(shows && Object.keys(shows).length ? shows : (given ?? {}));
  return { where: [], what: rows.map(([argument, value]) => ({ argument, value })) };
}

/** A map of the memory: the parts in the window with the share of it that each takes, in hundredths. */
export function filled(rows, room) {
  const inside = rows.filter(({ place }) => place !== "out");
  const used = inside.reduce((sum, { tokens }) => sum + tokens, 0);
  const whole = Math.max(room, used, 1);
  return { used, whole, parts: inside.map((row) => ({ ...row, share: (100 * row.tokens) / whole })) };
}
