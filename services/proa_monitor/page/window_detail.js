// One window against the reference: which features moved, and how the chosen one is spread.

import { badge } from "./badge.js";
import { calendar, walkable } from "./calendar.js";
import { contribution } from "./contribution.js";
import { element } from "./element.js";
import { count, measured, missing, UNKNOWN } from "./figure.js";
import { histogram } from "./histogram.js";
import { windowName } from "./moment.js";

const MOST = 40;

/** Args: `view` of a model; `asked` of the route; `address(changes)` of a link with these changes;
 *  `to(window)` of the link to another window. */
export function windowDetail(view, asked, address, to) {
  const { detail } = view;
  const feature = detail.features.find((one) => one.name === asked.feature) ?? detail.features[0];
  const all = asked.features === "all";
  const features = all ? detail.features : detail.features.slice(0, MOST);
  const calendarNode = calendar(view.series, detail.window, to);
  return element(
    "section",
    { id: "window", "aria-labelledby": "window-title" },
    element(
      "div",
      { class: "window-head" },
      element(
        "div",
        {},
        element("h2", { id: "window-title" }, windowName(detail.window), detail.over ? null : element("span", { class: "kind" }, "still running")),
        element("p", { class: "note" }, heading(detail)),
        element("p", { class: "meaning" }, state(detail), detail.note),
      ),
      calendarNode ? walkable(element("div", { class: "calendar", "aria-label": "Windows", "data-keep": "calendar" }, calendarNode, key())) : null,
    ),
    detail.features.length
      ? element(
          "div",
          { class: "split" },
          element(
            "div",
            {},
            element("h3", {}, "How far each feature moved; the line is what is ordinary"),
            contribution(features, feature.name, (name) => address({ feature: name })),
            detail.features.length > features.length
              ? element("a", { class: "more", href: address({ features: "all" }) }, `all ${count(detail.features.length)} features`)
              : null,
          ),
          element("div", { class: "chosen" }, element("h3", {}, feature.name), element("p", { class: "note" }, said(feature)),
            feature.message ? element("p", { class: "note" }, feature.message) : null, histogram(feature)),
        )
      : element("p", { class: "note" }, "This release is not watched, so there is nothing to compare with."),
  );
}

function heading(detail) {
  const release = detail.release.split("@")[0];
  return `${count(detail.rows)} rows in ${count(detail.calls)} calls of ${release}${detail.track ? ` as ${detail.track}` : ""}, against its reference`;
}

function state(detail) {
  const states = { drift: "warning", "no drift": "quiet", "not watched": "unwatched" };
  return badge(states[detail.state] ?? "unknown", detail.state);
}

function said(feature) {
  if (missing(feature.effect)) return `${UNKNOWN}: ${count(feature.rows)} values`;
  return `${measured(feature.effect, feature.unit)}; up to ${measured(feature.limit, feature.unit)} is ordinary (${count(feature.rows)} values)`;
}

function key() {
  const item = (name, text) => [element("span", { class: `swatch ${name}` }), text];
  return element("p", { class: "calendar-key", "aria-hidden": "true" }, item("sound", "no drift"), item("drift", "drift"), item("scarce", "too few rows"));
}
