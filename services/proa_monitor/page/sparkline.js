// A line of figures in the height of a row: limit dashed, releases as ticks, the newest as a dot.

import { chart, element, svg } from "./element.js";
import { UNKNOWN } from "./figure.js";
import { extent, path, scale } from "./scale.js";

const WIDTH = 84;
const HEIGHT = 30;
const PAD = 3;

/** Args: `values` per window (null: not known), `windows` their names, `marks` of releases,
 *  `limit` to compare with, `fromZero` whether the line stands on zero, `label` for readers. */
export function sparkline({ values, windows, marks = [], limit = null, fromZero = true, label }) {
  const found = extent(values);
  if (found === null) return element("span", { class: "unknown" }, UNKNOWN);
  const low = fromZero ? 0 : found[0];
  const high = Math.max(found[1], limit ?? found[1], fromZero ? 1e-9 : found[1]);
  const x = scale([0, Math.max(1, values.length - 1)], [PAD, WIDTH - PAD]);
  const y = scale([low, high], [HEIGHT - PAD, PAD]);
  const points = values.map((value, place) => (value === null ? null : [x(place), y(value)]));
  const last = points.findLastIndex((point) => point !== null);
  const ticks = marks
    .map((mark) => windows.indexOf(mark.window))
    .filter((place) => place > 0)
    .map((place) => svg("line", { class: "mark", x1: x(place), x2: x(place), y1: 0, y2: HEIGHT }));
  const over = limit !== null && values[last] > limit;
  return chart(
    WIDTH,
    HEIGHT,
    label,
    ticks,
    limit === null ? null : svg("line", { class: "limit", x1: 0, x2: WIDTH, y1: y(limit), y2: y(limit) }),
    svg("path", { class: "line", d: path(points) }),
    alone(points).map(([cx, cy]) => svg("circle", { class: "point", cx, cy, r: 1.3 })),
    svg("circle", { class: over ? "end over" : "end", cx: points[last][0], cy: points[last][1], r: 2.2 }),
  );
}

// Points with a gap on both sides: a line would not show them.
function alone(points) {
  return points.filter((point, place) => point && !points[place - 1] && !points[place + 1]);
}
