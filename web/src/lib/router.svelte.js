/** Which page is shown: what stands after the # of the address, "chat" where nothing or nonsense does. */

export const PAGES = {
  chat: "Chat",
  processes: "Processes",
  apps: "Apps",
  models: "Models",
  arena: "Arena",
  labels: "Labels",
  runs: "Runs",
};

const read = () => {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return name in PAGES ? { name, rest: rest.map(safeDecode) } : { name: "chat", rest: [] };
};

function safeDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const route = $state(read());

addEventListener("hashchange", () => Object.assign(route, read()));
