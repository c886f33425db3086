// The line at the top: the mark, where one is, the theme, and the way out.

import { element, svg } from "./element.js";

const THEMES = ["auto", "light", "dark"];

/** Args: `crumbs` [text, address or null]; `signedIn`; `onSignOut()`. */
export function masthead({ crumbs, signedIn, onSignOut }) {
  return element(
    "header",
    { class: "masthead" },
    element(
      "nav",
      { "aria-label": "Where you are" },
      element("a", { class: "brand", href: "#/" }, mark(), element("span", {}, "proa")),
      crumbs.map(([text, address]) => [
        element("span", { class: "slash", "aria-hidden": "true" }, "/"),
        address ? element("a", { href: address }, text) : element("span", { "aria-current": "page", class: "crumb" }, text),
      ]),
    ),
    element(
      "div",
      { class: "switches" },
      theme(),
      signedIn ? element("button", { type: "button", class: "quiet-button", on: { click: onSignOut } }, "Sign out") : null,
    ),
  );
}

function mark() {
  return svg(
    "svg",
    { viewBox: "0 0 32 32", width: 22, height: 22, "aria-hidden": "true" },
    svg("path", { class: "sail", d: "M15 2.5C22 8 25 14 25.5 20H15Z" }),
    svg("path", { class: "hull", d: "M3 22.5H28C27 26.5 23.5 28 20 28H10C6.5 28 4 26 3 22.5Z" }),
    svg("path", { class: "hull small", d: "M3.5 17H12C11.5 19.5 10 20 8.6 20H6.8C5.5 20 4.3 19.5 3.5 17Z" }),
  );
}

function theme() {
  const root = document.documentElement;
  const chosen = root.dataset.theme ?? "auto";
  const select = element(
    "select",
    { id: "theme", "aria-label": "Theme" },
    THEMES.map((name) => element("option", { value: name, selected: name === chosen }, name)),
  );
  select.addEventListener("change", () => {
    if (select.value === "auto") delete root.dataset.theme;
    else root.dataset.theme = select.value;
    try {
      if (select.value === "auto") localStorage.removeItem("proa-theme");
      else localStorage.setItem("proa-theme", select.value);
    } catch {
      // No storage: the choice holds for this page.
    }
  });
  return select;
}
