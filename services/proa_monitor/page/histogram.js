// One feature then and now, in the bins of the reference: grey was, colour is.

import { chart, element, svg } from "./element.js";
import { count, percent } from "./figure.js";
import { frame } from "./frame.js";
import { scale } from "./scale.js";
import { shareList } from "./share_list.js";

const HEIGHT = 200;
const BASE = 164;
const ODD_WIDTH = 46;

/** Args: `feature` of a window's detail. Cells of a number stand beside each other; categories lie
 *  below each other, the most changed first; beneath both the same as a table. */
export function histogram(feature) {
  const bins = shares(feature);
  const draw = feature.type === "number" ? (width) => cells(feature, bins, width) : null;
  return element(
    "figure",
    { class: "histogram" },
    legend(feature),
    draw ? frame(draw) : rows(feature, bins),
    element(
      "details",
      {},
      element("summary", {}, "Numbers"),
      table(feature, bins),
    ),
  );
}

function shares(feature) {
  const then = total(feature.reference);
  const now = total(feature.counts);
  return feature.bins.map((name, place) => ({
    name,
    odd: feature.odd.includes(name),
    reference: feature.reference[place],
    counts: feature.counts[place],
    then: then ? feature.reference[place] / then : 0,
    now: now ? feature.counts[place] / now : 0,
  }));
}

function total(counts) {
  return counts.reduce((sum, one) => sum + one, 0);
}

function legend(feature) {
  return element(
    "figcaption",
    { class: "legend" },
    element("span", { class: "key then" }),
    `reference, ${count(total(feature.reference))} values`,
    element("span", { class: "key now" }),
    `this window, ${count(total(feature.counts))}`,
  );
}

function cells(feature, bins, width) {
  const inner = bins.filter((bin) => !bin.odd);
  const before = bins.filter((bin) => bin.name === "below" && (bin.counts || bin.reference));
  const after = bins.filter(
    (bin) => bin.odd && bin.name !== "below" && (bin.counts || bin.reference),
  );
  const left = before.length * ODD_WIDTH;
  const room = width - left - after.length * ODD_WIDTH;
  const step = inner.length ? room / inner.length : 0;
  const most = Math.max(0.01, ...bins.flatMap((bin) => [bin.then, bin.now]));
  const y = scale([0, most], [BASE, 14]);
  const place = (number) => left + number * step;
  const odd = (list, from) =>
    list.map((bin, number) => [
      pair(bin, from + number * ODD_WIDTH + 5, ODD_WIDTH - 10, y, "odd"),
      svg(
        "text",
        { class: "tick", x: from + (number + 0.5) * ODD_WIDTH, y: BASE + 14, "text-anchor": "middle" },
        bin.name === "non_finite" ? "±∞" : bin.name,
      ),
    ]);
  return chart(
    width,
    HEIGHT,
    `${feature.name}: shares per bin of the reference and of this window; the table below has them`,
    svg("text", { class: "tick", x: 0, y: 9 }, percent(most)),
    svg("line", { class: "axis", x1: 0, x2: width, y1: BASE, y2: BASE }),
    inner.map((bin, number) => pair(bin, place(number), step, y, "cell")),
    edges(inner, place, left, left + room),
    odd(before, 0),
    odd(after, left + room),
  );
}

function pair(bin, x, width, y, name) {
  const gap = Math.min(2, width / 8);
  const thin = Math.max(1, (width - gap) * 0.5);
  return svg(
    "g",
    { class: name },
    svg("title", {}, `${bin.name}: ${percent(bin.now)}, reference ${percent(bin.then)}`),
    svg("rect", { class: "then", x: x + gap / 2, y: y(bin.then), width: Math.max(1, width - gap), height: BASE - y(bin.then) }),
    svg("rect", { class: "now", x: x + (width - thin) / 2, y: y(bin.now), width: thin, height: BASE - y(bin.now) }),
  );
}

function edge(text) {
  const value = Number(text);
  return text === "" || Number.isNaN(value) ? text : String(Number(value.toPrecision(3)));
}

// The cells' edges, as many as have room.
function edges(inner, place, from, to) {
  const names = inner.map((bin) => bin.name.split("…"));
  const texts = names.map(([low]) => edge(low));
  if (names.length) texts.push(edge(names.at(-1)[1] ?? ""));
  let free = -Infinity;
  return texts.map((text, number) => {
    if (text === texts[number - 1]) return null; // a cell of one value
    const wide = text.length * 6 + 8;
    const x = Math.min(Math.max(place(number), from + wide / 2 - 4), to - wide / 2 + 4);
    if (x - wide / 2 < free) return null;
    free = x + wide / 2;
    return svg("text", { class: "tick", x, y: BASE + 14, "text-anchor": "middle" }, text);
  });
}

function rows(feature, bins) {
  const used = bins.filter((bin) => bin.counts || bin.reference);
  return shareList(used, `${feature.name}: shares, the most changed first`);
}

function table(feature, bins) {
  const head = ["bin", "reference", "this window", "reference", "this window"];
  return element(
    "table",
    { class: "plain" },
    element("caption", { class: "hidden" }, `${feature.name}, values and shares per bin`),
    element(
      "thead",
      {},
      element("tr", {}, head.map((text, place) => element("th", { class: place ? "n" : null, scope: "col" }, text))),
    ),
    element(
      "tbody",
      {},
      bins.map((bin) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, bin.name),
          [count(bin.reference), count(bin.counts), percent(bin.then), percent(bin.now)].map((text) =>
            element("td", { class: "n" }, text),
          ),
        ),
      ),
    ),
  );
}
