/** What the parts of the labelling desk share: the instructions, getting something to label, keeping a label. */

import { json } from "./api.js";
import { wholeAnswer } from "./answers.js";

class Desk {
  instructions = $state("");
  version = $state(1);

  /** Read the present instructions. Raises ApiError. */
  async readInstructions() {
    const { text, version } = await json("/twofold/labels/instructions");
    [this.instructions, this.version] = [text, version];
  }
}

export const desk = new Desk();

/** Return {messages, answer?, answers?, model?} that waits for a label, or null. Raises ApiError. */
export async function next(kind) {
  const found = await json(`/twofold/labels/next?kind=${kind}`);
  return found?.messages?.length ? found : null;
}

/** Keep a label, with its reason if there is one. Raises ApiError. */
export async function keepLabel({ why, ...body }) {
  return json("/twofold/labels", { method: "POST", body: { ...body, ...(why?.trim() ? { why: why.trim() } : {}) } });
}

/** Return what `model` finds wrong with an answer, by the instructions; `onText` sees it grow. Raises ApiError. */
export function critique({ model, messages, answer, signal }, onText) {
  const question = messages.map(({ role, content }) => `${role}: ${content}`).join("\n\n");
  const ask =
    `These are the rules for good answers:\n\n${desk.instructions}\n\nThis was asked:\n\n${question}\n\n` +
    `This is the answer:\n\n${answer}\n\nSay in a few short points what is wrong with the answer by these rules. ` +
    "Do not write a better answer. If nothing is wrong, say that nothing is.";
  return wholeAnswer({ model, messages: [{ role: "user", content: ask }], settings: { temperature: 0, max_tokens: 400 }, signal }, onText);
}
