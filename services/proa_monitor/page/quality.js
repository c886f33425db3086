// How good the answers were: worst slices and groups, with what is known of the labels.

import { element } from "./element.js";
import { count, measured, metricName, missing, number, percent, seconds, UNKNOWN } from "./figure.js";
import { domainOf, interval } from "./interval.js";
import { shareList } from "./share_list.js";

const MOST = 12;

/** Args: `view` of a model. The course of the first two figures is in the timeline. */
export function quality(view) {
  const { quality: found, slices, fairness, judging, reasons } = view;
  const parts = [
    found?.metrics.length ? newest(found.metrics) : null,
    slices?.length ? sliceTable(slices, found) : null,
    fairness?.length ? fairnessTables(fairness) : null,
    reasons?.length ? leaning(reasons) : null,
  ].filter(Boolean);
  if (!parts.length && !judging && (!found || view.kind === "llm")) return null;
  return element(
    "section",
    { id: "quality", "aria-labelledby": "quality-title" },
    element("h2", { id: "quality-title" }, "Quality"),
    found ? element("p", { class: "note" }, labels(found)) : null,
    judging ? element("p", { class: "note" }, judged(judging)) : null,
    parts,
  );
}

// The newest figure of each metric, measured and, of days without their labels, estimated.
function newest(metrics) {
  const rows = metrics.flatMap((metric) =>
    ["measured", "estimated"].map((source) => {
      const point = metric.points.findLast((one) => one.source === source && !missing(one.value));
      return point && { ...point, name: metricName(metric.metric), unit: metric.unit };
    }),
  );
  return element(
    "table",
    { class: "plain newest" },
    element("caption", { class: "hidden" }, "Newest figures"),
    element("thead", {}, element("tr", {}, ["figure", "value", "interval", "n", ""].map((text, place) => element("th", { scope: "col", class: place ? "n" : null }, text || element("span", { class: "hidden" }, "until"))))),
    element(
      "tbody",
      {},
      rows.filter(Boolean).map((row) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, row.name, row.source === "estimated" ? element("span", { class: "soft" }, " estimated") : null),
          element("td", { class: "n" }, measured(row.value, row.unit)),
          element("td", { class: "n soft" }, range(row)),
          element("td", { class: "n soft" }, count(row.n)),
          element("td", { class: "n soft" }, row.window),
        ),
      ),
    ),
  );
}

function leaning(reasons) {
  const label = "What the answers lean on, by mean size of the reasons given";
  return element("div", {}, element("h3", {}, label), shareList(reasons.map((row) => ({ ...row, name: row.feature })), label));
}

function labels(found) {
  if (found.note) return found.note;
  const parts = [];
  parts.push(missing(found.coverage) ? "no label has come yet" : `${percent(found.coverage)} of the answers have their label`);
  if (found.delay_seconds && !missing(found.delay_seconds.p50)) {
    parts.push(`half of the labels come within ${seconds(found.delay_seconds.p50)}, nine of ten within ${seconds(found.delay_seconds.p90)}`);
  }
  return `${parts.join("; ")}.`;
}

function judged(judging) {
  const read = missing(judging.judged)
    ? "No judge reads answers here"
    : `A judge read ${count(judging.judged)} answers (a sample of ${percent(judging.share)}); ${percent(judging.good)} were good`;
  const agreement = missing(judging.agreement)
    ? "its agreement with people is not known yet"
    : `it agrees with people in ${percent(judging.agreement)} of ${count(judging.n)} (kappa ${number(judging.kappa)})`;
  return `${read}; ${agreement}.`;
}

function sliceTable(slices, found) {
  const better = new Map((found?.metrics ?? []).map((metric) => [metric.metric, metric.better]));
  return element(
    "div",
    {},
    element("h3", {}, "Worst slices; the rule is the whole"),
    rowsTable(
      "Slices, the worst first",
      "slice",
      slices.slice(0, MOST).map((row) => ({ better: better.get(row.metric), ...row, name: row.slice, note: metricName(row.metric) })),
    ),
    slices.length > MOST ? element("p", { class: "note" }, `and ${count(slices.length - MOST)} more`) : null,
  );
}

function rowsTable(caption, first, rows) {
  const domain = domainOf(rows);
  return element(
    "table",
    { class: "plain intervals" },
    element("caption", { class: "hidden" }, caption),
    element(
      "thead",
      {},
      element("tr", {}, [first, "", "value", "n"].map((text, place) => element("th", { scope: "col", class: place > 1 ? "n" : null }, text || element("span", { class: "hidden" }, "drawn")))),
    ),
    element(
      "tbody",
      {},
      rows.map((row) =>
        element(
          "tr",
          {},
          element("th", { scope: "row", title: row.name }, row.name, row.note ? element("span", { class: "soft" }, ` ${row.note}`) : null),
          element("td", { class: "drawn" }, interval(row, domain)),
          element("td", { class: "n", title: range(row) }, missing(row.value) ? UNKNOWN : measured(row.value, row.unit), element("span", { class: "hidden" }, range(row))),
          element("td", { class: "n" }, count(row.n)),
        ),
      ),
    ),
  );
}

function range(row) {
  return missing(row.low) ? "" : `${measured(row.low, row.unit)} … ${measured(row.high, row.unit)}`;
}

function fairnessTables(fairness) {
  return element(
    "div",
    {},
    element("h3", {}, "Fairness; groups are shown to keys with the right protected"),
    fairness.map((gap) =>
      element(
        "div",
        { class: "gap" },
        element(
          "p",
          { class: missing(gap.low) || gap.low <= gap.tolerance ? null : "over" },
          `${gap.attribute}, ${metricName(gap.metric)}: `,
          missing(gap.gap) ? UNKNOWN : `gap ${percent(gap.gap)} (${percent(gap.low)} … ${percent(gap.high)}); up to ${percent(gap.tolerance)} is allowed`,
        ),
        rowsTable(
          `${gap.attribute}: ${gap.metric}`,
          gap.attribute,
          gap.groups.map((group) => ({ ...group, name: group.group, unit: "share" })),
        ),
      ),
    ),
  );
}
