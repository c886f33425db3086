// How far each feature moved, in units of what is ordinary for it; the line is 1.

import { element, svg } from "./element.js";
import { missing, times, UNKNOWN } from "./figure.js";

const LEAST = 1.5;
const MOST = 5;

/** Args: `features` of a window's detail, the most changed first; `selected` its name;
 *  `address(name)` of the link that selects one. */
export function contribution(features, selected, address) {
  const ratios = features.map((feature) => feature.ratio ?? 0);
  const end = Math.min(MOST, Math.max(LEAST, ...ratios));
  return element(
    "ol",
    { class: "contribution" },
    features.map((feature) =>
      element(
        "li",
        {},
        element(
          "a",
          {
            href: address(feature.name),
            class: feature.state === "drift" ? "over" : null,
            "aria-current": feature.name === selected ? "true" : null,
            "aria-label": `${feature.name}: ${missing(feature.ratio) ? UNKNOWN : `${times(feature.ratio)} of what is ordinary`}`,
          },
          element("span", { class: "name", title: feature.name }, feature.name),
          bar(feature, end),
          element(
            "span",
            { class: missing(feature.ratio) ? "n unknown" : "n" },
            missing(feature.ratio) ? UNKNOWN : times(feature.ratio),
          ),
        ),
      ),
    ),
  );
}

function bar(feature, end) {
  const wide = (value) => ((100 * Math.min(Math.max(value, 0), end)) / end).toFixed(2);
  const cut = (feature.ratio ?? 0) > end;
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 2, width: 100, height: 8 }),
    missing(feature.ratio)
      ? null
      : svg("rect", { class: "value", x: 0, y: 2, width: wide(feature.ratio), height: 8 }),
    // A bar that goes on is cut open near its end.
    cut ? svg("rect", { class: "cut", x: 94, y: 0, width: 1.5, height: 12 }) : null,
    svg("line", { class: "limit", x1: wide(1), x2: wide(1), y1: 0, y2: 12 }),
  );
}
