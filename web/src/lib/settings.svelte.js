/** What a person has set on this page, kept in this browser. */

const KEY = "twofold.settings";
const DEFAULTS = { model: null, system: "", sampling: {}, lens: false, listShown: true, who: "" };

function load() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export const settings = $state(load());

/** Keep the settings; called by whoever changes one. */
export function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // they hold until the tab is closed
  }
}

// ---- light or dark: the system's choice until a person makes one. public/theme.js reads it before the first paint.

export const theme = $state({ name: document.documentElement.dataset.theme ?? "system" });

/** Set "system", "light" or "dark". */
export function setTheme(name) {
  theme.name = name;
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    if (name === "system") localStorage.removeItem("twofold.theme");
    else localStorage.setItem("twofold.theme", name);
  } catch {
    // holds until the tab is closed
  }
}
