// Before the first paint, so that a dark page never flashes white. A file, since the policy forbids inline scripts.
try {
  const theme = localStorage.getItem("twofold.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // storage is switched off: the system decides
}
