/** What the parts of the labelling desk share: the instructions, getting something to label, keeping a label. */

import { json } from "./api.js";
import { wholeAnswer } from "./answers.js";
import { keep, settings } from "./settings.svelte.js";

class Desk {
  instructions = $state("");
  version = $state(1);

  /** The labeller's mark, agreement is between these; empty: this machine's user. */
  get who() {
    return settings.who;
  }

  set who(mark) {
    settings.who = mark;
    keep();
  }

  /** Read the present instructions. Raises ApiError. */
  async readInstructions() {
    const { text, version } = await json("/twofold/labels/instructions");
    [this.instructions, this.version] = [text, version];
  }
}

export const desk = new Desk();

/**
 * Return {messages, answers, model, source} that waits for a label, or null.
 *
 * `answers`: none, one to correct or two to compare. `skip`: how many that would come first are left out, for a person who passes them over. Raises ApiError.
 */
export async function next(kind, skip = 0) {
  const query = new URLSearchParams({ kind, ...(desk.who ? { who: desk.who } : {}), ...(skip ? { skip } : {}) });
  const found = await json(`/twofold/labels/next?${query}`);
  return found?.messages?.length ? found : null;
}

/** Keep a label, with its reason if there is one. Raises ApiError. */
export async function keepLabel({ why, ...body }) {
  return json("/twofold/labels", {
    method: "POST",
    body: { ...body, ...(why?.trim() ? { why: why.trim() } : {}), ...(desk.who ? { who: desk.who } : {}) },
  });
}

/** Return what `model` finds wrong with an answer, by the instructions; `onText` sees it grow. Raises ApiError. */
export function critique({ model, messages, answer, signal }, onText) {
  const question = messages.map(({ role, content }) => `${role}: ${content}`).join("\n\n");
  const ask =
    `These are the rules for good answers:\n\n${desk.instructions}\n\nThis was asked:\n\n${question}\n\n` +
    `This is the answer:\n\n${answer}\n\nSay in a few short points what is wrong with the answer by these rules. ` +
    "Do not write a better answer. If nothing is wrong, say that nothing is.";
  return wholeAnswer(
    { model, messages: [{ role: "user", content: ask }], settings: { temperature: 0, max_tokens: 400 }, signal },
    onText,
  );
}
