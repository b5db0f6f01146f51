/** The models the server knows, for pickers and the models page. */

import { ApiError, json } from "./api.js";

export const models = $state({ list: [], loaded: false, error: null });

let first = null; // the first question, for those who wait for it
let newest = 0;

/**
 * Ask the server again, with `predict` for predicted speeds too: the first time it measures the machine for them, which
 * takes seconds. Never throws: `models.error` holds the sentence.
 */
export function refresh(predict = false) {
  const asked = ask(predict);
  first ??= asked;
  return asked;
}

/** Return when the server has been asked once. */
export const known = () => first ?? refresh();

async function ask(predict) {
  newest += 1;
  const mine = newest;
  try {
    const list = await described(predict);
    if (mine === newest) Object.assign(models, { list, error: null });
  } catch (error) {
    if (mine === newest) models.error = error.message;
  }
  models.loaded = true;
}

/** The names of /v1/models, with what /twofold/models says about each. A speed that was told once is not forgotten. */
async function described(predict) {
  const [served, here] = await Promise.all([
    json("/v1/models").then((answer) => answer.data),
    json(`/twofold/models?predict=${predict ? 1 : 0}`).catch((error) => {
      if (error instanceof ApiError && error.status === 404) return [];
      throw error;
    }),
  ]);
  const about = new Map(here.map((model) => [model.name, model]));
  const told = new Map(models.list.map((model) => [model.name, model.predicted_tokens_per_s]));
  const servedNames = new Set(served.map((model) => model.id));
  return [...new Set([...servedNames, ...about.keys()])].map((name) => ({
    ...about.get(name),
    name,
    served: servedNames.has(name),
    predicted_tokens_per_s: about.get(name)?.predicted_tokens_per_s ?? told.get(name) ?? null,
  }));
}

/** Return `wanted` if it can be talked to, else the default, else the first, else null. */
export function pick(wanted) {
  const served = models.list.filter((model) => model.served);
  return (served.find((m) => m.name === wanted) ?? served.find((m) => m.default) ?? served[0])?.name ?? null;
}
