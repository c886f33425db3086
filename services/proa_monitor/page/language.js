// What only a language model has: topics then and now, and signals of its answers.

import { element } from "./element.js";
import { measured, missing, UNKNOWN } from "./figure.js";
import { shareList } from "./share_list.js";

/** Args: `language` of a model's view, or null. */
export function language(found) {
  if (!found || !(found.topics?.length || found.signals?.length)) return null;
  return element(
    "section",
    { id: "language", "aria-labelledby": "language-title" },
    element("h2", { id: "language-title" }, "What was asked, and how it was answered"),
    element("div", { class: "split" }, found.topics?.length ? topics(found.topics) : null, found.signals?.length ? signals(found.signals) : null),
  );
}

function topics(rows) {
  const label = "Topics of the questions, the most changed first";
  return element("div", {}, element("h3", {}, label), shareList(rows.map((row) => ({ ...row, over: row.holds })), label));
}

function signals(rows) {
  return element(
    "div",
    {},
    element("h3", {}, "Signals of the answers"),
    element(
      "table",
      { class: "plain" },
      element("thead", {}, element("tr", {}, ["signal", "this window", "reference"].map((text, place) => element("th", { scope: "col", class: place ? "n" : null }, text)))),
      element(
        "tbody",
        {},
        rows.map((row) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, row.name.replaceAll("_", " ")),
            element("td", { class: missing(row.value) ? "n unknown" : "n" }, missing(row.value) ? UNKNOWN : measured(row.value, row.unit)),
            element("td", { class: "n soft" }, missing(row.reference) ? "–" : measured(row.reference, row.unit)),
          ),
        ),
      ),
    ),
  );
}
