// One model: how it is, since when, and why.

import { badge } from "./badge.js";
import { element } from "./element.js";
import { examples } from "./examples.js";
import { count, measured, metricName, missing, money, number, percent, seconds, shown, times, UNKNOWN } from "./figure.js";
import { findingList } from "./finding_list.js";
import { language } from "./language.js";
import { ago, moment, windowName } from "./moment.js";
import { quality } from "./quality.js";
import { releaseTable } from "./releases.js";
import { link } from "./route.js";
import { storyList } from "./story_list.js";
import { timeline } from "./timeline.js";
import { windowDetail } from "./window_detail.js";

// Figures of quality that have a line in the timeline; the rest are in the table below.
const LINES = 2;

/** Args: `view` as `/v1/view/models/NAME` answers; `asked` of the route; `go(address, options)`;
 *  `load(path)` asks the monitor. */
export function model(view, asked, go, load) {
  const address = (changes) => link(view.name, { ...asked, ...changes });
  // Another window may be another release's: it says itself whose it is.
  const to = (window, feature = asked.feature) => address({ window, feature, release: null, track: null });
  const about = ({ window, subject, feature = subject }) => to(window.split("/")[0], featureOf(feature));
  const { detail } = view;
  return element(
    "div",
    { class: "model" },
    head(view),
    figures(view),
    findingList(view.findings, about),
    course(view, to, go),
    windowDetail(view, asked, address, to),
    examples(known(detail, asked.feature), () => load(examplesPath(view, asked))),
    language(view.language),
    element("div", { class: "beside" }, quality(view), storyList(view.story, about)),
    releaseTable(view.releases, detail, (release) => link(view.name, { release: release.short, track: release.track })),
    view.notes.map((note) => element("p", { class: "note" }, note)),
  );
}

// What a finding is about may be a slice's feature: `carrier=UA/wind`.
function featureOf(subject) {
  return subject?.includes("=") ? subject.split("/").at(-1) : subject;
}

function known(detail, feature) {
  return detail.features.some((one) => one.name === feature) ? feature : null;
}

function examplesPath(view, asked) {
  const { detail } = view;
  const query = new URLSearchParams({ window: detail.window, release: detail.release });
  if (detail.track) query.set("track", detail.track);
  if (asked.feature) query.set("feature", asked.feature);
  return `/v1/view/models/${encodeURIComponent(view.name)}/examples?${query}`;
}

function head(view) {
  const serving = view.releases.find((release) => release.current) ?? view.releases[0];
  const trial = view.releases.find((release) => release.track === "challenger");
  return element(
    "div",
    { class: "model-head" },
    element("h1", {}, element("span", { class: "title" }, view.name), element("span", { class: "kind" }, view.kind)),
    element("p", { class: "lead" }, badge(view.health.state), element("span", {}, view.health.reason)),
    element(
      "p",
      { class: "note" },
      element("b", {}, serving.short),
      " first met ",
      moment(serving.first, ago(serving.first, view.time)),
      trial && trial.release !== serving.release ? [", ", element("b", {}, trial.short), " on trial"] : null,
      ". Last call ",
      moment(serving.last, ago(serving.last, view.time)),
      ".",
    ),
  );
}

function figures(view) {
  const { traffic, drift, quality: good, cost } = view.now;
  const items = [];
  if (traffic) {
    items.push([`Calls, ${windowName(traffic.window)}`, count(traffic.calls), traffic.calls ? `${percent(traffic.errors / traffic.calls)} errors` : ""]);
    items.push(["Half answered within", seconds(traffic.p50_seconds), missing(traffic.p99_seconds) ? "" : `99 % within ${seconds(traffic.p99_seconds)}`]);
  }
  if (drift) items.push(["Drift", drift.state === "not watched" ? "not watched" : times(drift.figure), drift.subject ?? "", drift.state === "drift"]);
  if (good && !missing(good.value)) {
    const range = missing(good.low) ? "" : `${measured(good.low, good.unit)} … ${measured(good.high, good.unit)}`;
    items.push([`${metricName(good.metric)}${good.source === "estimated" ? ", estimated" : ""}`, measured(good.value, good.unit), range]);
  } else items.push(["Quality", UNKNOWN, "no labels yet"]);
  if (view.kind === "llm" && traffic) items.push(["Tokens out per answer", traffic.calls ? number(traffic.tokens_out / traffic.calls) : UNKNOWN, `${count(traffic.refused)} refused`]);
  items.push(["Cost, 30 days", cost ? money(cost.micro, view.currency) : "none billed", cost?.calls ? `${money((1000 * cost.micro) / cost.calls, view.currency)} per 1,000 calls` : ""]);
  return element(
    "dl",
    { class: "figures" },
    items.map(([name, text, note, over]) =>
      element("div", {}, element("dt", {}, name), element("dd", { class: over ? "over" : null }, shown(text), note ? element("span", { class: "soft" }, note) : null)),
    ),
  );
}

function course(view, to, go) {
  const { series, marks, detail } = view;
  if (!series.windows.length) return null;
  const rows = [
    { name: `calls per ${view.window}`, values: series.calls, kind: "bars", format: count },
    { name: "drift", values: series.drift, kind: "line", limit: 1, format: times },
    ...metrics(view),
    { name: "99 % within", values: series.p99_seconds, kind: "line", format: seconds },
  ];
  if (view.kind === "llm") rows.push({ name: "refused", values: shares(series), kind: "line", format: percent });
  const select = (window, replace) => go(to(window), { replace });
  return element(
    "section",
    { id: "course", "aria-labelledby": "course-title" },
    element("h2", { id: "course-title" }, "Over time"),
    timeline({ windows: series.windows, rows, marks, selected: detail.window, select }),
    element("details", { "data-keep": "numbers" }, element("summary", {}, "Numbers"), numbers(view, rows, to)),
  );
}

function shares(series) {
  return series.calls.map((calls, place) => (calls ? series.refused[place] / calls : null));
}

function metrics(view) {
  return (view.quality?.metrics ?? []).slice(0, LINES).map((metric) => {
    const at = new Map(metric.points.map((point) => [point.window, point]));
    const { windows } = view.series;
    // Quality is reckoned by day: where windows are hours it stands at the day's last one.
    const last = (place) => windows[place].slice(0, 10) !== windows[place + 1]?.slice(0, 10);
    const points = windows.map((window, place) => (last(place) ? (at.get(window.slice(0, 10)) ?? null) : null));
    const column = (name) => points.map((point) => point?.[name] ?? null);
    return {
      name: metricName(metric.metric),
      values: column("value"),
      low: column("low"),
      high: column("high"),
      estimated: points.map((point) => point?.source === "estimated"),
      kind: "line",
      fromZero: false,
      seldom: true,
      format: (value) => measured(value, metric.unit === "points" ? "" : metric.unit),
    };
  });
}

function numbers(view, rows, to) {
  const { series } = view;
  return element(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Figures per window" },
    element(
      "table",
      { class: "plain" },
      element("thead", {}, element("tr", {}, ["window", "release", ...rows.map((row) => row.name)].map((text, place) => element("th", { scope: "col", class: place > 1 ? "n" : null }, text)))),
      element(
        "tbody",
        {},
        series.windows
          .map((window, place) =>
            element(
              "tr",
              {},
              element("th", { scope: "row" }, element("a", { href: to(window) }, windowName(window))),
              element("td", {}, series.release[place]),
              rows.map((row) => element("td", { class: missing(row.values[place]) ? "n unknown" : "n" }, missing(row.values[place]) ? "–" : row.format(row.values[place]))),
            ),
          )
          .reverse(),
      ),
    ),
  );
}
