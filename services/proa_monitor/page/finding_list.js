// What was found and lasted: open findings as a table, those that are gone folded away.

import { dot } from "./badge.js";
import { element, svg } from "./element.js";
import { count, measured, missing } from "./figure.js";
import { moment, windowName } from "./moment.js";

/** Args: `findings`, open ones first; `address(finding)` of the link to its window. */
export function findingList(findings, address) {
  const open = findings.filter((finding) => finding.until === null);
  const gone = findings.filter((finding) => finding.until !== null);
  return element(
    "section",
    { id: "findings", "aria-labelledby": "findings-title" },
    element("h2", { id: "findings-title" }, open.length ? `${count(open.length)} open finding${open.length === 1 ? "" : "s"}` : "No open finding"),
    open.length ? table(open, address, "Open findings") : element("p", { class: "note" }, "Nothing that was looked at stands out for as long as it must to be a finding."),
    gone.length
      ? element(
          "details",
          { "data-keep": "gone" },
          element("summary", {}, `${count(gone.length)} that ${gone.length === 1 ? "is" : "are"} gone`),
          table(gone, address, "Findings that are gone"),
        )
      : null,
  );
}

/** A finding's type and subject as people say them. */
export function titleOf(finding) {
  return finding.type.replaceAll("_", " ");
}

function table(findings, address, caption) {
  return element(
    "table",
    { class: "findings", role: "table" },
    element("caption", { class: "hidden" }, caption),
    element(
      "thead",
      { role: "rowgroup" },
      element(
        "tr",
        { role: "row" },
        ["Finding", "What was seen", "Effect", "Since"].map((text) => element("th", { scope: "col", role: "columnheader" }, text)),
      ),
    ),
    element(
      "tbody",
      { role: "rowgroup" },
      findings.map((finding) =>
        element(
          "tr",
          { role: "row", class: finding.severity, id: `finding-${finding.id}` },
          element(
            "th",
            { scope: "row", role: "rowheader" },
            dot(finding.severity, finding.severity),
            element("a", { href: address(finding) }, titleOf(finding)),
            finding.subject ? element("p", { class: "subject" }, finding.subject) : null,
          ),
          element("td", { role: "cell", class: "message" }, finding.message),
          element("td", { role: "cell", class: "effect" }, effect(finding)),
          element(
            "td",
            { role: "cell", class: "since" },
            span(finding),
            element("code", { class: "soft", title: "for proa monitor report --finding" }, finding.id),
          ),
        ),
      ),
    ),
  );
}

function effect(finding) {
  if (missing(finding.effect)) return element("span", { class: "soft" }, "no number says it");
  const unit = finding.unit;
  return [
    element("span", { class: "figure" }, measured(finding.effect, unit)),
    missing(finding.limit) ? null : [bar(finding), element("p", { class: "soft" }, `ordinary up to ${measured(finding.limit, unit)}`)],
  ];
}

function bar({ effect: size, limit, severity }) {
  const most = Math.max(Math.abs(size), Math.abs(limit)) * 1.08 || 1;
  const wide = (value) => ((100 * Math.abs(value)) / most).toFixed(1);
  return svg(
    "svg",
    { class: `bar ${severity}`, viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 4, width: 100, height: 4 }),
    svg("rect", { class: "value", x: 0, y: 4, width: wide(size), height: 4 }),
    svg("line", { class: "limit", x1: wide(limit), x2: wide(limit), y1: 0, y2: 12 }),
  );
}

function span(finding) {
  const windows = `${count(finding.windows)} window${finding.windows === 1 ? "" : "s"}`;
  if (finding.until === null) return [moment(finding.since), element("p", { class: "soft" }, `${windows}, last ${windowName(finding.window)}`)];
  return [moment(finding.since), element("p", { class: "soft" }, "until ", moment(finding.until))];
}
