// A figure with its interval on a line, the whole's figure as a rule through all rows.

import { svg } from "./element.js";
import { missing } from "./figure.js";
import { scale } from "./scale.js";

const WIDTH = 200;
const HEIGHT = 18;

/** What `interval` needs to draw rows on one line: the least and greatest of all of them. */
export function domainOf(rows) {
  const known = rows.flatMap((row) => [row.low, row.value, row.high, row.overall]).filter((v) => !missing(v));
  if (!known.length) return [0, 1];
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - pad, high + pad];
}

/** One row: `value`, `low`, `high` and `overall`, any of them null; `better`: "higher" or "lower".
 *  One that is proven worse than the whole stands out. */
export function interval(row, domain) {
  const x = scale(domain, [4, WIDTH - 4]);
  const middle = HEIGHT / 2;
  const beyond = row.better === "lower" ? row.low > row.overall : row.high < row.overall;
  const worse = !missing(row.overall) && !missing(row.low) && beyond;
  return svg(
    "svg",
    { class: worse ? "interval worse" : "interval", width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" },
    svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: middle, y2: middle }),
    missing(row.overall)
      ? null
      : svg("line", { class: "overall", x1: x(row.overall), x2: x(row.overall), y1: 0, y2: HEIGHT }),
    missing(row.low) || missing(row.high)
      ? null
      : svg("rect", { class: "range", x: x(row.low), y: middle - 2.5, width: Math.max(1, x(row.high) - x(row.low)), height: 5, rx: 2.5 }),
    missing(row.value) ? null : svg("circle", { class: "value", cx: x(row.value), cy: middle, r: 3.6 }),
  );
}
