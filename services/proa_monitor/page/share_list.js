// Shares then and now, one row each: grey was, colour is.

import { element, svg } from "./element.js";
import { count, percent } from "./figure.js";

const MOST = 14;

/** Args: `rows` of {name, then, now, odd?, over?}; `label` for readers. The most changed first. */
export function shareList(rows, label) {
  const ordered = rows.toSorted((one, other) => change(other) - change(one));
  const most = Math.max(0.01, ...rows.flatMap((row) => [row.then ?? 0, row.now ?? 0]));
  const wide = (share) => ((100 * (share ?? 0)) / most).toFixed(2);
  return element(
    "ul",
    { class: "shares", "aria-label": label },
    ordered.slice(0, MOST).map((row) =>
      element(
        "li",
        { class: row.over ? "over" : row.odd ? "odd" : null },
        element("span", { class: "name", title: row.name }, row.name),
        svg(
          "svg",
          { class: "pair", viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
          svg("rect", { class: "then", x: 0, y: 0, width: wide(row.then), height: 14 }),
          svg("rect", { class: "now", x: 0, y: 4, width: wide(row.now), height: 6 }),
        ),
        element("span", { class: "n" }, percent(row.now)),
        element("span", { class: "n soft" }, `was ${percent(row.then)}`),
      ),
    ),
    ordered.length > MOST ? element("li", { class: "rest soft" }, `and ${count(ordered.length - MOST)} more`) : null,
  );
}

function change(row) {
  return Math.abs((row.now ?? 0) - (row.then ?? 0));
}
