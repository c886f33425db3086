// Several figures over the same windows, one below the other; releases are lines through all.
// The selected window is a band; arrow keys and clicks move it.

import { chart, element, svg } from "./element.js";
import { missing, UNKNOWN } from "./figure.js";
import { frame } from "./frame.js";
import { windowName } from "./moment.js";
import { extent, path, scale } from "./scale.js";

const ROW = 58;
const GAP = 18;
const TOP = 22;
const NARROW = 560;
const NAMES = 128;
const AXIS = 46;

/** Args: `windows` names, oldest first; `rows`: {name, values, low?, high?, estimated?, limit?,
 *  kind: "bars" | "line", fromZero, format}; `marks` of releases; `selected` window;
 *  `select(window)`. */
export function timeline({ windows, rows, marks, selected, select }) {
  const at = Math.max(0, windows.indexOf(selected));
  const said = (place) => readout(windows, rows, place);
  for (const row of rows) row.dateOf = (place) => windowName(windows[place]);
  const readoutLine = element("p", { class: "readout" }, said(at));
  const show = (place) => {
    readoutLine.textContent = said(place ?? at);
  };
  const drawing = frame((width) => draw({ windows, rows, marks, at, width, show, select }));
  const slider = element(
    "div",
    {
      class: "timeline",
      role: "slider",
      tabindex: 0,
      "aria-label": "Window; arrow keys move it",
      "aria-valuemin": 0,
      "aria-valuemax": windows.length - 1,
      "aria-valuenow": at,
      "aria-valuetext": said(at),
      "data-keep": "timeline",
      on: { keydown: (event) => step(event, windows, at, select) },
    },
    drawing,
  );
  return element("div", {}, slider, readoutLine);
}

function step(event, windows, at, select) {
  const last = windows.length - 1;
  const targets = { ArrowRight: at + 1, ArrowLeft: at - 1, PageUp: at + 7, PageDown: at - 7, Home: 0, End: last };
  const target = targets[event.key];
  if (target === undefined) return;
  event.preventDefault();
  const place = Math.min(last, Math.max(0, target));
  if (place !== at) select(windows[place], true);
}

function readout(windows, rows, place) {
  const told = rows.filter((row) => !row.seldom || !missing(row.values[place]));
  const parts = told.map((row) => {
    const value = row.values[place];
    const range = missing(row.low?.[place])
      ? ""
      : ` (${row.format(row.low[place])} … ${row.format(row.high[place])})`;
    return `${row.name} ${missing(value) ? UNKNOWN : row.format(value)}${range}`;
  });
  return `${windowName(windows[place])} · ${parts.join(" · ")}`;
}

function draw({ windows, rows, marks, at, width, show, select }) {
  const narrow = width < NARROW;
  const [left, right] = narrow ? [4, width - 4] : [NAMES, width - AXIS];
  const top = narrow ? TOP + 16 : TOP;
  const height = top + rows.length * (ROW + GAP) + 6;
  const band = (right - left) / windows.length;
  const x = (place) => left + (place + 0.5) * band;
  const bottom = height - GAP - 4;
  const hover = svg("rect", { class: "hover", visibility: "hidden", x: 0, y: top - 4, width: Math.max(1, band), height: bottom - top + 4 });
  const node = chart(
    width,
    height,
    "figures per window; the table of numbers has the same",
    svg("rect", { class: "selected", x: x(at) - Math.max(3, band) / 2, y: top - 4, width: Math.max(3, band), height: bottom - top + 4, rx: 2 }),
    hover,
    rows.map((row, number) => plot(row, { top: top + number * (ROW + GAP), left, right, x, band, at, narrow })),
    releases(marks, windows, x, bottom, width),
    dates(windows, x, height, width),
  );
  const placeOf = (event) => {
    const inside = event.clientX - node.getBoundingClientRect().left;
    return Math.min(windows.length - 1, Math.max(0, Math.floor((inside - left) / band)));
  };
  node.addEventListener("pointermove", (event) => {
    const place = placeOf(event);
    hover.setAttribute("x", x(place) - band / 2);
    hover.setAttribute("visibility", "visible");
    show(place);
  });
  node.addEventListener("pointerleave", () => {
    hover.setAttribute("visibility", "hidden");
    show(null);
  });
  node.addEventListener("click", (event) => select(windows[placeOf(event)], false));
  return node;
}

function plot(row, { top, left, right, x, band, at, narrow }) {
  const found = extent([...row.values, ...(row.low ?? []), ...(row.high ?? []), row.limit ?? null]);
  const base = top + ROW;
  const [value, place] = latest(row, at);
  const text = missing(value) ? UNKNOWN : row.format(value);
  const date = place === at || missing(value) ? "" : row.dateOf(place);
  const name = narrow
    ? svg("text", { class: "row-name", x: left, y: top - 3 }, `${row.name} `, svg("tspan", { class: "row-value" }, text))
    : [
        svg("text", { class: "row-name", x: 0, y: top + 14 }, row.name),
        svg("text", { class: missing(value) ? "row-value unknown" : "row-value", x: 0, y: top + 32 }, text),
        date ? svg("text", { class: "tick", x: 0, y: top + 47 }, `on ${date}`) : null,
      ];
  const axis = svg("line", { class: "axis", x1: left, x2: right, y1: base, y2: base });
  if (found === null) return svg("g", {}, name, axis);
  const y = scale(row.fromZero === false ? padded(found) : [0, found[1] || 1], [base, top + 4]);
  const inside = row.kind === "bars" ? bars(row, x, y, band, base) : line(row, x, y);
  return svg(
    "g",
    { class: `plot of-${row.kind}` },
    name,
    axis,
    svg("text", { class: "tick", x: narrow ? right : right + 6, y: narrow ? top - 3 : top + 8, "text-anchor": narrow ? "end" : "start" }, row.format(found[1])),
    missing(row.limit) ? null : svg("line", { class: "limit", x1: left, x2: right, y1: y(row.limit), y2: y(row.limit) }),
    inside,
  );
}

// The figure of a window; of the newest before it where figures come seldom (labels come late).
function latest(row, at) {
  let place = at;
  if (row.seldom) while (place > 0 && missing(row.values[place])) place -= 1;
  return missing(row.values[place]) ? [null, at] : [row.values[place], place];
}

function padded([low, high]) {
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - pad, high + pad];
}

function bars(row, x, y, band, base) {
  const wide = Math.max(1, Math.min(26, band - Math.min(2, band / 4)));
  return row.values.map((value, place) =>
    missing(value)
      ? null
      : svg("rect", { class: "value", x: x(place) - wide / 2, y: y(value), width: wide, height: Math.max(0, base - y(value)) }),
  );
}

function line(row, x, y) {
  const points = row.values.map((value, place) => (missing(value) ? null : [x(place), y(value)]));
  const ranges = row.values.map((_, place) =>
    missing(row.low?.[place]) || missing(row.high?.[place])
      ? null
      : svg("line", { class: "range", x1: x(place), x2: x(place), y1: y(row.low[place]), y2: y(row.high[place]) }),
  );
  const dots = points.map((point, place) => {
    if (!point) return null;
    const over = !missing(row.limit) && row.values[place] > row.limit;
    const name = row.estimated?.[place] ? "point estimated" : "point";
    return svg("circle", { class: over ? `${name} over` : name, cx: point[0], cy: point[1], r: over ? 3 : 2 });
  });
  return [ranges, svg("path", { class: "line", d: path(row.seldom ? points.filter(Boolean) : points) }), dots];
}

// Release names over their lines, where there is room for them.
function releases(marks, windows, x, bottom, width) {
  let free = 0;
  return marks.map((mark) => {
    const place = windows.indexOf(mark.window);
    if (place < 0) return null;
    const at = x(place);
    const wide = mark.short.length * 6.2 + 8;
    const ahead = at + wide > width;
    const from = ahead ? at - wide : at;
    const label = from < free ? null : svg("text", { class: "mark-name", x: ahead ? at - 3 : at + 3, y: 11, "text-anchor": ahead ? "end" : "start" }, mark.short);
    if (label) free = from + wide;
    const why = [mark.what, mark.who && `by ${mark.who}`, mark.reason].filter(Boolean).join(", ");
    return svg("g", { class: "release" }, svg("title", {}, `${mark.short}: ${why}`), svg("line", { class: "mark", x1: at, x2: at, y1: 2, y2: bottom }), label);
  });
}

function dates(windows, x, height, width) {
  const most = Math.max(2, Math.floor(width / 140));
  const last = windows.length - 1;
  const step = Math.max(1, Math.ceil(last / (most - 1)));
  const places = windows.map((_, place) => place).filter((place) => (last - place) % step === 0);
  let free = -Infinity;
  return places.map((place) => {
    const text = windowName(windows[place]);
    const wide = text.length * 6.4;
    const at = Math.min(Math.max(x(place), wide / 2), width - wide / 2);
    if (at - wide / 2 < free) return null;
    free = at + wide / 2 + 8;
    return svg("text", { class: "tick", x: at, y: height - 2, "text-anchor": "middle" }, text);
  });
}
