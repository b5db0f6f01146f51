/**
 * A conversation is a tree: editing a question or asking again adds a branch, and nothing that was said is lost.
 *
 *     {id, title, model, system, sampling, created, updated, nodes: {ID: node}, shown: {PARENT: CHILD}}
 *     node = {id, parent, role, content, children: [ID], attachments?, thinking?, tokens?, model?, …}
 *
 * `shown` says which child is on the page where there are several. Functions return a new conversation and leave the
 * old one as it was: the page redraws what is another object, and what is the same object costs nothing.
 */

export const ROOT = "root";

export const newId = () =>
  crypto.randomUUID
    ? crypto.randomUUID()
    : Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

/** Return an empty conversation. */
export function fresh({ model = null, system = "", sampling = {} } = {}) {
  const now = Date.now();
  return {
    id: newId(),
    title: "",
    model,
    system,
    sampling,
    created: now,
    updated: now,
    nodes: { [ROOT]: { id: ROOT, parent: null, role: "root", content: "", children: [] } },
    shown: {},
  };
}

/** Return [conversation, id] with a message added below `parent`, and shown. */
export function add(tree, parent, message) {
  const id = newId();
  const above = tree.nodes[parent];
  const nodes = {
    ...tree.nodes,
    [parent]: { ...above, children: [...above.children, id] },
    [id]: { ...message, id, parent, children: [], time: Date.now() },
  };
  const title = tree.title || (message.role === "user" ? titleOf(message) : "");
  return [{ ...tree, nodes, title, shown: { ...tree.shown, [parent]: id }, updated: Date.now() }, id];
}

/** Return the conversation with some fields of a message changed. */
export function patch(tree, id, fields) {
  return { ...tree, nodes: { ...tree.nodes, [id]: { ...tree.nodes[id], ...fields } }, updated: Date.now() };
}

/** Return the conversation with the branch shown that is `by` further than the one through `id`. */
export function turn(tree, id, by) {
  const { parent } = tree.nodes[id];
  const { children } = tree.nodes[parent];
  const next = children[children.indexOf(id) + by];
  return next ? { ...tree, shown: { ...tree.shown, [parent]: next } } : tree;
}

/** Return the messages on the page, first to last. */
export function path(tree) {
  const found = [];
  for (let id = child(tree, ROOT); id; id = child(tree, id)) found.push(tree.nodes[id]);
  return found;
}

/** Return where a message stands among the branches at its place: {index, count}, counted from 0. */
export function place(tree, id) {
  const { children } = tree.nodes[tree.nodes[id].parent];
  return { index: children.indexOf(id), count: children.length };
}

/** Return the messages from the first to `id`, `id` with them. */
export function upTo(tree, id) {
  const found = [];
  for (let at = id; at && at !== ROOT; at = tree.nodes[at].parent) found.unshift(tree.nodes[at]);
  return found;
}

function child(tree, id) {
  const { children } = tree.nodes[id];
  return children.includes(tree.shown[id]) ? tree.shown[id] : children.at(-1);
}

function titleOf(message) {
  const line = message.content.trim().split("\n")[0] || message.attachments?.[0]?.name || "";
  return line.length > 60 ? line.slice(0, 59).trimEnd() + "…" : line;
}

// ---- what goes to the model, and into files

/** Return what a message says to the model: its text, and its attached files as fenced blocks. */
export function spoken({ content, attachments = [] }) {
  const parts = attachments.map(({ name, text }) => {
    const fence = "`".repeat(Math.max(3, ...[...text.matchAll(/`{3,}/g)].map((run) => run[0].length + 1)));
    return `File ${name}:\n${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
  });
  return [...(content ? [content] : []), ...parts].join("\n\n");
}

/** Return messages as the API and conversation files hold them. */
export function messages(system, nodes) {
  const said = nodes.map((node) => ({
    role: node.role,
    content: spoken(node),
    ...(node.thinking ? { reasoning_content: node.thinking } : {}),
  }));
  return system?.trim() ? [{ role: "system", content: system }, ...said] : said;
}

/** Return the branches as lines of a conversation file: all of them, the one on the page first. */
export function toLines(tree) {
  const leaves = Object.values(tree.nodes).filter((node) => node.children.length === 0 && node.id !== ROOT);
  const last = path(tree).at(-1)?.id;
  leaves.sort((a, b) => (b.id === last) - (a.id === last));
  return leaves.map((leaf) =>
    JSON.stringify({ messages: messages(tree.system, upTo(tree, leaf.id)), conversation: tree.id }),
  );
}

/**
 * Return the conversations in the text of a conversation file. Lines of one conversation (the same `conversation`, or the
 * same beginning) become branches of one tree. Raises Error naming the line that is none.
 */
export function fromLines(text) {
  const trees = new Map();
  text.split("\n").forEach((line, number) => {
    if (!line.trim()) return;
    const { said, key } = readLine(line, number + 1);
    const system = said[0].role === "system" ? said[0].content : "";
    const rest = system ? said.slice(1) : said;
    let tree = trees.get(key) ?? fresh({ system });
    let at = ROOT;
    for (const { role, content, reasoning_content: thinking } of rest) {
      const known = tree.nodes[at].children.find(
        (id) => tree.nodes[id].role === role && tree.nodes[id].content === content,
      );
      if (known) at = known;
      else [tree, at] = add(tree, at, { role, content, ...(thinking ? { thinking } : {}) });
    }
    trees.set(key, tree);
  });
  // The first line of a tree is the branch that was on the page.
  return [...trees.values()].map((tree) => ({ ...tree, shown: {}, ...firstShown(tree) }));
}

function firstShown(tree) {
  return {
    shown: Object.fromEntries(
      Object.values(tree.nodes)
        .filter((n) => n.children.length)
        .map((n) => [n.id, n.children[0]]),
    ),
  };
}

function readLine(line, number) {
  const wrong = new Error(
    `Line ${number} is no conversation: {"messages": [{"role": …, "content": …}, …]} is expected.`,
  );
  let record;
  try {
    record = JSON.parse(line);
  } catch {
    throw wrong;
  }
  const said = (Array.isArray(record?.messages) ? record.messages : []).map((message) => ({
    ...message,
    content: textOf(message?.content),
  }));
  if (
    !said.some((m) => m.role === "user" || m.role === "assistant") ||
    said.some((m) => typeof m.role !== "string" || m.content === null)
  )
    throw wrong;
  const kept = said.filter((m) => m.role === "user" || m.role === "assistant" || m.role === "system");
  const key =
    typeof record.conversation === "string"
      ? record.conversation
      : JSON.stringify(kept.slice(0, kept[0].role === "system" ? 2 : 1));
  return { said: kept, key };
}

function textOf(content) {
  if (typeof content === "string") return content;
  if (Array.isArray(content))
    return content
      .filter((p) => p?.type === "text")
      .map((p) => p.text)
      .join("\n\n");
  return content == null ? "" : null;
}
