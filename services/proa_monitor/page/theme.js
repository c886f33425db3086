// Before anything is drawn: the theme that the reader chose, else the system's.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("proa-theme");
  } catch {
    // No storage (a private window): the system's theme it is.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
