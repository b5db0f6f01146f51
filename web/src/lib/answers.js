/**
 * Asking a model for an answer, and reading it token by token.
 *
 * A token is kept as {id, text, bytes, logprob, others}: `id` is null from servers that do not tell it, `bytes` because a
 * token may be half a character, `others` the likeliest tokens in its place, likeliest first, the taken one among them
 * or not.
 */

import { events } from "./api.js";

export const ALTERNATIVES = 8;

/** What can be set for sampling, with the range of its field. An empty field leaves it to the server. */
export const SAMPLING = {
  temperature: { label: "Temperature", min: 0, max: 2, step: 0.05, hint: "0 always takes the likeliest token" },
  top_p: { label: "Top p", min: 0.01, max: 1, step: 0.01, hint: "only the likeliest that together hold this share" },
  min_p: { label: "Min p", min: 0, max: 1, step: 0.01, hint: "only tokens at least this likely, relative to the best" },
  top_k: { label: "Top k", min: 0, max: 1000, step: 1, hint: "only this many of the likeliest" },
  max_tokens: { label: "Most tokens", min: 1, max: 100000, step: 1, hint: "where an answer is cut" },
  seed: { label: "Seed", min: 0, max: 2 ** 31 - 1, step: 1, hint: "the same seed, the same answer" },
};

/** Return the settings that are set, as the API takes them. */
export function chosen(settings = {}) {
  return Object.fromEntries(
    Object.keys(SAMPLING)
      .filter((name) => typeof settings[name] === "number")
      .map((name) => [name, settings[name]]),
  );
}

/**
 * Yield {text, thinking, tokens, finish, usage} as an answer comes; each may be empty.
 *
 * Two ways to go on from the beginning of an answer; then only what follows comes: `ids`, the tokens that it begins with,
 * exactly; or `goOn`, with the beginning as last message, which the server cuts into tokens anew. Raises ApiError.
 */
export async function* answer({ model, messages, settings, goOn = false, ids = null, signal }) {
  const body = {
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
    top_logprobs: ALTERNATIVES,
    ...chosen(settings),
    ...(ids ? { continue_tokens: ids } : goOn ? { continue_final_message: true } : {}),
  };
  for await (const chunk of events("/v1/chat/completions", { method: "POST", body, signal })) {
    const choice = chunk.choices?.[0];
    yield {
      text: choice?.delta?.content ?? "",
      thinking: choice?.delta?.reasoning_content ?? choice?.delta?.reasoning ?? "",
      tokens: (choice?.logprobs?.content ?? []).map(token),
      finish: choice?.finish_reason ?? null,
      usage: chunk.usage ?? null,
    };
  }
}

/** Return the whole answer as text. For drafts and critiques, where nobody watches the tokens. */
export async function wholeAnswer(question, onText = () => {}) {
  let text = "";
  for await (const piece of answer(question)) {
    text += piece.text;
    if (piece.text) onText(text);
  }
  return text;
}

function token(raw) {
  return { ...plain(raw), others: (raw.top_logprobs ?? []).map(plain) };
}

function plain({ id = null, token, logprob, bytes }) {
  return { id, text: token, logprob, bytes: bytes ?? [...new TextEncoder().encode(token)] };
}
