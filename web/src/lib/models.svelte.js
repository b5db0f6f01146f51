/** The models the server knows, for pickers and the models page. */

import { ApiError, json } from "./api.js";

export const models = $state({ list: [], loaded: false, error: null });

/** Ask the server again. Never throws: `models.error` holds the sentence. */
export async function refresh() {
  models.error = null;
  try {
    models.list = await described();
  } catch (error) {
    models.error = error.message;
  }
  models.loaded = true;
}

/** Return when the server has been asked once. */
export async function known() {
  if (!models.loaded) await refresh();
}

/** The names of /v1/models, with what /twofold/models says about each. */
async function described() {
  const [served, known] = await Promise.all([
    json("/v1/models").then((answer) => answer.data),
    json("/twofold/models").catch((error) => {
      if (error instanceof ApiError && error.status === 404) return [];
      throw error;
    }),
  ]);
  const byName = new Map(known.map((model) => [model.name, model]));
  const names = [...new Set([...served.map((model) => model.id), ...byName.keys()])];
  const servedNames = new Set(served.map((model) => model.id));
  return names.map((name) => ({ name, served: servedNames.has(name), ...byName.get(name) }));
}

/** Return `wanted` if it can be talked to, else the default, else the first, else null. */
export function pick(wanted) {
  const served = models.list.filter((model) => model.served);
  return (served.find((m) => m.name === wanted) ?? served.find((m) => m.default) ?? served[0])?.name ?? null;
}
