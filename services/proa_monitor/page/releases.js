// Every release that answered, as a table.

import { element } from "./element.js";
import { count, percent } from "./figure.js";
import { moment } from "./moment.js";

/** Args: `releases` of a model's view; `shown` the one in detail; `address(release)` to show one. */
export function releaseTable(releases, shown, address) {
  const head = ["Release", "Track", "Calls", "Errors", "First met", "Last met", "Reference"];
  const numeric = ["Calls", "Errors"];
  return element(
    "section",
    { id: "releases", "aria-labelledby": "releases-title" },
    element("h2", { id: "releases-title" }, "Releases that answered"),
    element(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": "releases-title" },
      element(
        "table",
        { class: "plain" },
        element("thead", {}, element("tr", {}, head.map((text) => element("th", { scope: "col", class: numeric.includes(text) ? "n" : null }, text)))),
        element("tbody", {}, releases.map((release) => row(release, shown, address))),
      ),
    ),
  );
}

function row(release, shown, address) {
  const current = release.release === shown.release && release.track === shown.track;
  return element(
    "tr",
    {},
    element(
      "th",
      { scope: "row" },
      element("a", { href: address(release), "aria-current": current ? "true" : null, title: release.release }, release.short),
      element("span", { class: "digest" }, release.digest.slice(7, 15)),
    ),
    element("td", {}, release.track ?? "direct", release.current ? element("span", { class: "kind" }, "serving") : null),
    element("td", { class: "n" }, count(release.calls)),
    element("td", { class: "n" }, release.calls ? percent(release.errors / release.calls) : "–"),
    element("td", {}, moment(release.first)),
    element("td", {}, moment(release.last)),
    element("td", { class: "soft" }, release.watched ? "watched" : (release.note ?? "not watched")),
  );
}
