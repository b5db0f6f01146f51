/**
 * The conversation on the page, and everything that can be done with it.
 *
 * Trees are replaced, never changed (lib/tree.js), so they are held in $state.raw. An answer goes on while another
 * conversation is looked at: it belongs to its own tree, which `trees` keeps.
 */

import { stopped } from "./api.js";
import { answer } from "./answers.js";
import { settings } from "./settings.svelte.js";
import * as store from "./store.js";
import { branchAt, idsOf, spelled } from "./tokens.js";
import * as tree from "./tree.js";

const REDRAW_MS = 40; // an answer is put on the page 25 times a second at most, however fast it comes
const SAVE_MS = 1500; // a conversation is kept this often while it changes, and when an answer is complete

const trees = new Map();
const saving = new Map();

class Talk {
  titles = $state.raw([]);
  tree = $state.raw(begin());
  answering = $state.raw({}); // conversation → {node, stop}
  error = $state.raw(null); // {conversation, node, text}
  lasting = $state(true); // whether the browser keeps conversations
}

function begin() {
  const made = tree.fresh({ model: settings.model, system: settings.system, sampling: { ...settings.sampling } });
  trees.set(made.id, made);
  return made;
}

export const talk = new Talk();

/** Read what this browser has kept, and show the latest title first. */
export async function load() {
  talk.titles = await store.titles();
}

// ---- which conversation

/** Show a new, empty conversation. It is kept from its first message on. */
export function start() {
  if (tree.path(talk.tree).length) talk.tree = begin();
}

/** Show a conversation that was kept; return whether there is one. */
export async function open(id) {
  const found = trees.get(id) ?? (await store.get(id));
  if (!found) return false;
  trees.set(id, found);
  talk.tree = found;
  return true;
}

/** Forget a conversation for good. */
export async function forget(id) {
  talk.answering[id]?.stop();
  clearTimeout(saving.get(id));
  trees.delete(id);
  talk.titles = talk.titles.filter((entry) => entry.id !== id);
  if (talk.tree.id === id) talk.tree = begin();
  await store.remove(id);
}

/** Change the title, model, system prompt or sampling of the conversation on the page. */
export function change(fields) {
  update(talk.tree.id, (now) => ({ ...now, ...fields }));
}

function update(id, how) {
  const now = trees.get(id);
  if (!now) return; // it was forgotten while an answer was on its way
  const made = how(now);
  trees.set(id, made);
  if (talk.tree.id === id) talk.tree = made;
  if (tree.path(made).length) keepSoon(id);
}

function keepSoon(id) {
  const { title, updated } = trees.get(id);
  const known = talk.titles.find((entry) => entry.id === id);
  if (!known || known.title !== title) {
    talk.titles = [{ id, title, updated }, ...talk.titles.filter((entry) => entry.id !== id)];
  }
  if (!saving.has(id))
    saving.set(
      id,
      setTimeout(() => keepNow(id), SAVE_MS),
    );
}

async function keepNow(id) {
  clearTimeout(saving.get(id));
  saving.delete(id);
  if (trees.has(id)) talk.lasting = await store.put(trees.get(id));
}

addEventListener("pagehide", () => [...saving.keys()].forEach(keepNow));

// ---- what is said

/** Say something below the last message on the page, and have it answered. */
export function say(content, attachments = []) {
  const last = tree.path(talk.tree).at(-1)?.id ?? tree.ROOT;
  return sayBelow(last, content, attachments);
}

/** Say something else instead of an earlier message: a new branch beside it. */
export function sayInstead(id, content, attachments = []) {
  return sayBelow(talk.tree.nodes[id].parent, content, attachments);
}

function sayBelow(parent, content, attachments) {
  const conversation = talk.tree.id;
  let question;
  update(conversation, (now) => {
    const [made, id] = tree.add(now, parent, { role: "user", content, ...(attachments.length ? { attachments } : {}) });
    question = id;
    return made;
  });
  return respond(conversation, question);
}

/** Ask again for an answer: a new branch beside it. */
export function again(id) {
  return respond(talk.tree.id, talk.tree.nodes[id].parent);
}

/** Take another token at a place of an answer, and go on from there: a new branch. Returns false where that cannot be. */
export function takeInstead(id, index, other) {
  const node = talk.tree.nodes[id];
  const begun = branchAt(node.tokens, index, other);
  if (begun === null) return false;
  respond(talk.tree.id, node.parent, { content: begun.text, tokens: begun.tokens, branchedAt: index });
  return true;
}

/** Go on with an answer that was stopped or cut. */
export function goOn(id) {
  return stream(talk.tree.id, id, true);
}

/** Put an answer written by the person beside a model's. */
export function putInstead(id, content) {
  update(talk.tree.id, (now) => tree.add(now, now.nodes[id].parent, { role: "assistant", content, model: "you" })[0]);
}

/** Show the branch that is `by` further. */
export function turn(id, by) {
  update(talk.tree.id, (now) => tree.turn(now, id, by));
}

/** Stop the answer that is coming in the conversation on the page. */
export function stop() {
  talk.answering[talk.tree.id]?.stop();
}

function respond(conversation, question, begun = null) {
  let id;
  update(conversation, (now) => {
    const [made, added] = tree.add(now, question, {
      role: "assistant",
      content: "",
      tokens: [],
      model: now.model,
      ...begun,
    });
    id = added;
    return made;
  });
  return stream(conversation, id, begun !== null);
}

/** Fill the message `id` with what the model says. Never throws: what went wrong is told beside the message. */
async function stream(conversation, id, going) {
  talk.answering[conversation]?.stop();
  const now = trees.get(conversation);
  const node = now.nodes[id];
  // By the ids of its tokens an answer goes on exactly; thoughts before it are no part of these.
  const ids = going && !node.thinking ? idsOf(node.tokens) : null;
  const said = tree.upTo(now, going && !ids ? id : node.parent);
  const controller = new AbortController();
  const mine = { node: id, stop: () => controller.abort() };
  talk.answering = { ...talk.answering, [conversation]: mine };
  talk.error = null;

  const pen = new Pen(conversation, node, ids !== null);
  try {
    const question = { model: now.model, messages: tree.messages(now.system, said), settings: now.sampling };
    const signal = controller.signal;
    for await (const piece of answer({ ...question, goOn: going, ids, signal })) pen.write(piece);
    pen.finish ??= "stop";
  } catch (error) {
    pen.finish = "stopped";
    if (!stopped(error)) talk.error = { conversation, node: id, text: error.message };
  }
  pen.put();
  if (talk.answering[conversation] === mine) {
    const { [conversation]: _, ...others } = talk.answering;
    talk.answering = others;
  }
  keepNow(conversation);
}

/** Gathers what comes, puts it on the page now and then, and counts. */
class Pen {
  finish = null;
  usage = null;

  /** `exact`: the text is what the tokens spell, since the first that comes may be the other half of a character. */
  constructor(conversation, { id, content, thinking = "", tokens = [] }, exact) {
    Object.assign(this, { conversation, id, content, thinking, tokens: [...tokens], had: tokens.length, exact });
    this.began = performance.now();
    this.pieces = 0;
  }

  write({ text, thinking, tokens, finish, usage }) {
    this.content += text;
    this.thinking += thinking;
    this.tokens.push(...tokens);
    this.finish = finish ?? this.finish;
    this.usage = usage ?? this.usage;
    if (text || thinking || tokens.length) {
      this.first ??= performance.now();
      this.last = performance.now();
      this.pieces += 1;
    }
    this.due ??= setTimeout(() => this.put(), REDRAW_MS);
  }

  put() {
    clearTimeout(this.due);
    this.due = null;
    const { thinking, tokens, finish } = this;
    const content = this.exact ? spelled(tokens) : this.content;
    const fields = { content, finish, stats: this.stats(), tokens: [...tokens], ...(thinking ? { thinking } : {}) };
    update(this.conversation, (now) => tree.patch(now, this.id, fields));
  }

  /**
   * Tokens made, tokens a second after the first, seconds until it; null before there is one. What comes all at once tells
   * no rate by itself: then the wait is counted in, and a handful of tokens tells none at all.
   */
  stats() {
    if (!this.first) return null;
    const made = this.usage?.completion_tokens ?? (this.tokens.length - this.had || this.pieces);
    const [writing, all] = [this.last - this.first, this.last - this.began].map((ms) => ms / 1000);
    const rate = writing > 0.05 ? (made - 1) / writing : made / all;
    return { tokens: made, rate: made >= 10 ? rate : null, wait: (this.first - this.began) / 1000 };
  }
}

// ---- files

/** Return the text of a conversation file with the branches of the conversation on the page. */
export const exported = () => tree.toLines(talk.tree).join("\n") + "\n";

/** Return the text of a conversation file with everything this browser keeps. */
export async function exportedAll() {
  const lines = [];
  for (const { id } of talk.titles) {
    const found = trees.get(id) ?? (await store.get(id));
    if (found) lines.push(...tree.toLines(found));
  }
  return lines.join("\n") + "\n";
}

/** Keep the conversations of a conversation file and show the first; return how many. Raises Error naming a bad line. */
export async function imported(text) {
  const made = tree.fromLines(text).map((one) => ({ ...one, model: settings.model }));
  for (const one of made) {
    trees.set(one.id, one);
    talk.lasting = await store.put(one);
  }
  await load();
  if (made.length) talk.tree = made[0];
  return made.length;
}
