// The fleet: a row per model of either kind, those that need a look first.

import { badge } from "./badge.js";
import { element } from "./element.js";
import { count, measured, metricName, missing, money, percent, seconds, shown, times, UNKNOWN } from "./figure.js";
import { ago, moment, windowName } from "./moment.js";
import { link } from "./route.js";
import { sparkline } from "./sparkline.js";

const GRAVITY = ["critical", "warning", "info", "unknown", "quiet", "unwatched"];
const ORDERS = {
  health: (row) => GRAVITY.indexOf(row.health.state),
  model: (row) => row.name,
  calls: (row) => -(row.traffic?.calls ?? -1),
  drift: (row) => -(row.drift?.figure ?? -1),
  quality: (row) => row.quality?.value ?? Infinity,
  cost: (row) => -(row.cost?.micro ?? -1),
};

/** Args: `view` as `/v1/view/fleet` answers; `asked` of the route; `go(address)`. */
export function fleet(view, asked, go) {
  const filter = (asked.q ?? "").toLowerCase();
  const order = asked.sort in ORDERS ? asked.sort : "health";
  const rows = view.models.filter((row) => !filter || found(row, filter));
  rows.sort((one, other) => compare(ORDERS[order](one), ORDERS[order](other)) || compare(one.name, other.name));
  return element(
    "div",
    { class: "fleet" },
    element("div", { class: "head" }, element("h1", {}, "Fleet"), view.models.length > 1 ? search(asked, go) : null),
    element("p", { class: "summary" }, summary(view)),
    view.notes.map((note) => element("p", { class: "note" }, note)),
    view.models.length ? (rows.length ? table(view, rows, asked, order) : nothing(filter)) : empty(),
  );
}

function found(row, filter) {
  const names = [row.name, row.kind, row.releases.champion?.short ?? "", row.health.state];
  return names.some((name) => name.toLowerCase().includes(filter));
}

function compare(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

function summary(view) {
  const total = view.models.length;
  if (!total) return "";
  const kinds = ["classic", "llm"]
    .map((kind) => [view.models.filter((row) => row.kind === kind).length, kind])
    .filter(([number]) => number)
    .map(([number, kind]) => `${number} ${kind}`);
  const look = view.models.filter((row) => ["critical", "warning"].includes(row.health.state)).length;
  const need = look === 0 ? "none needs a look" : look === 1 ? "1 needs a look" : `${look} need a look`;
  const times_ = view.models.map((row) => row.traffic?.last ?? "").sort();
  return [
    `${total} model${total === 1 ? "" : "s"} (${kinds.join(", ")}), ${need}. The last event is of `,
    moment(times_.at(-1), ago(times_.at(-1), view.time)),
    ".",
  ];
}

function search(asked, go) {
  const input = element("input", {
    type: "search",
    id: "search",
    value: asked.q ?? "",
    placeholder: "Filter",
    "aria-label": "Filter models by name, kind, release or health",
    "data-keep": "search",
  });
  input.addEventListener("input", () => go(link(null, { ...asked, q: input.value }), { replace: true }));
  return input;
}

function table(view, rows, asked, order) {
  const columns = [
    ["model", "Model"],
    ["health", "Health"],
    ["calls", `Calls per ${view.window}`],
    ["drift", "Drift"],
    ["quality", "Quality"],
    ["cost", "Cost, 30 days"],
  ];
  return element(
    "table",
    { class: "models", role: "table" },
    element("caption", { class: "hidden" }, "Models; the figures are those of the newest window"),
    element(
      "thead",
      { role: "rowgroup" },
      element(
        "tr",
        { role: "row" },
        columns.map(([name, text]) =>
          element(
            "th",
            { scope: "col", role: "columnheader", class: name, "aria-sort": name === order ? "ascending" : null },
            element("a", { href: link(null, { ...asked, sort: name === "health" ? "" : name }) }, text),
          ),
        ),
      ),
    ),
    element("tbody", { role: "rowgroup" }, rows.map((row) => line(view, row))),
  );
}

function line(view, row) {
  const cell = (name, label, ...content) => element("td", { role: "cell", class: name, "data-label": label }, content);
  return element(
    "tr",
    { role: "row" },
    element("th", { scope: "row", role: "rowheader", class: "model" }, who(view, row)),
    cell("health", "Health", badge(row.health.state), element("p", { class: "why", title: row.health.reason }, row.health.reason)),
    cell("calls", `Calls per ${view.window}`, traffic(view, row)),
    cell("drift", "Drift", drift(row)),
    cell("quality", "Quality", quality(row)),
    cell("cost", "Cost, 30 days", cost(view, row)),
  );
}

function who(view, row) {
  const champion = row.releases.champion;
  const challenger = row.releases.challenger;
  return [
    element("a", { href: link(row.name), title: row.name }, row.name),
    element("span", { class: "kind" }, row.kind),
    element(
      "p",
      { class: "soft" },
      champion ? [version(champion.short), " since ", moment(champion.since, ago(champion.since, view.time))] : "no champion seen",
      challenger && challenger.short !== champion?.short ? [", ", version(challenger.short), " on trial"] : null,
    ),
  ];
}

function version(short) {
  return element("span", { class: "version", title: short }, `/${short.split("/").at(-1)}`);
}

function traffic(view, row) {
  if (!row.traffic) return shown(UNKNOWN);
  const { calls, errors, p50_seconds: middle, window } = row.traffic;
  return pair(
    sparkline({ ...lines(row), values: row.series.calls, label: `calls per ${view.window}, the newest ${count(calls)}` }),
    shown(count(calls)),
    calls ? `${percent(errors / calls)} err.` : "no calls",
    `in ${windowName(window)}; half of them within ${seconds(middle)}`,
  );
}

function drift(row) {
  const { drift: found } = row;
  if (!found || found.state === "not watched") return element("span", { class: "unknown", title: found?.note }, "not watched");
  if (missing(found.figure)) return pair(null, shown(UNKNOWN), found.note);
  return pair(
    sparkline({ ...lines(row), values: row.series.drift, limit: 1, label: `drift, the newest ${times(found.figure)}` }),
    element("span", { class: found.state === "drift" ? "figure over" : "figure" }, times(found.figure)),
    found.subject,
    found.note,
  );
}

function quality(row) {
  const found = row.quality;
  if (!found || missing(found.value)) return shown(UNKNOWN);
  const range = missing(found.low) ? "" : `${measured(found.low, found.unit)} … ${measured(found.high, found.unit)}`;
  return pair(
    row.series.quality ? sparkline({ ...lines(row), values: row.series.quality, fromZero: false, label: `${found.metric}, the newest ${measured(found.value, found.unit)}` }) : null,
    shown(`${found.source === "estimated" ? "≈\u202f" : ""}${measured(found.value, found.unit)}`),
    metricName(found.metric),
    [found.metric, found.source, range].filter(Boolean).join(", "),
  );
}

function cost(view, row) {
  if (!row.cost) return shown(view.notes.length ? "not known" : "none billed");
  const { micro, calls } = row.cost;
  const each = calls ? `${money((1000 * micro) / calls, "")}per 1,000` : "";
  return pair(null, shown(money(micro, view.currency)), each);
}

function pair(graph, figure, note, title = null) {
  return element("div", { class: graph ? "pair-cell drawn" : "pair-cell", title }, graph, element("div", {}, figure, note ? element("p", { class: "soft" }, note) : null));
}

function lines(row) {
  return { windows: row.series.windows, marks: row.series.marks };
}

function nothing(filter) {
  return element("p", { class: "empty" }, `No model matches “${filter}”.`);
}

function empty() {
  return element(
    "div",
    { class: "empty" },
    element("p", {}, "No event has come yet."),
    element("p", { class: "note" }, "A model shows here with its first call through the gateway:"),
    element("pre", {}, "proa predict NAME --row '{…}'"),
  );
}
