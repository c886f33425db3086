// Every window that is held, as a calendar: weeks beside each other, or days below each other when
// windows are hours. The colour is what was judged; each one is a link.

import { chart, svg } from "./element.js";
import { times, missing } from "./figure.js";
import { windowName } from "./moment.js";

const CELL = 12;
const STEP = 15;
const DAY = 86_400_000;

const CLASSES = { drift: "drift", "no drift": "sound", "not watched": "unwatched" };

/** Args: `series` of a model; `selected` window; `address(window)` of the link to one. */
export function calendar(series, selected, address) {
  if (!series.windows.length) return null;
  const hourly = series.windows[0].length > 10;
  const first = Date.parse(`${series.windows[0].slice(0, 10)}T00:00Z`);
  const places = series.windows.map((name) => (hourly ? hourPlace(name, first) : dayPlace(name, first)));
  const left = hourly ? 68 : 30;
  const top = 16;
  const columns = Math.max(...places.map(([column]) => column)) + 1;
  const rows = hourly ? Math.max(...places.map(([, row]) => row)) + 1 : 7;
  return chart(
    left + columns * STEP,
    top + rows * STEP,
    "windows; the table of numbers has the same",
    labels(series.windows, places, hourly, left, top),
    series.windows.map((name, place) => {
      const [column, row] = places[place];
      const state = CLASSES[series.state[place]] ?? "scarce";
      const figure = missing(series.drift[place]) ? "" : `, ${times(series.drift[place])}`;
      return svg(
        "a",
        {
          href: address(name),
          "aria-label": `${windowName(name)}: ${series.state[place]}${figure}`,
          "aria-current": name === selected ? "true" : null,
          tabindex: name === selected ? 0 : -1,
          "data-window": name,
        },
        svg("title", {}, `${windowName(name)}: ${series.state[place]}${figure}`),
        svg("rect", { class: `window ${state}`, x: left + column * STEP, y: top + row * STEP, width: CELL, height: CELL, rx: 2.5 }),
      );
    }),
  );
}

/** Let arrow keys move between the windows of a calendar. */
export function walkable(node) {
  node.setAttribute("role", "group");
  node.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const links = [...node.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    const to = links[Math.min(links.length - 1, Math.max(0, at + step))];
    for (const link of links) link.setAttribute("tabindex", link === to ? "0" : "-1");
    to.focus();
  });
  return node;
}

function dayPlace(name, first) {
  const monday = first - ((new Date(first).getUTCDay() + 6) % 7) * DAY;
  const days = Math.round((Date.parse(`${name}T00:00Z`) - monday) / DAY);
  return [Math.floor(days / 7), days % 7];
}

function hourPlace(name, first) {
  const day = Math.round((Date.parse(`${name.slice(0, 10)}T00:00Z`) - first) / DAY);
  return [Number(name.slice(11, 13)), day];
}

function labels(windows, places, hourly, left, top) {
  const text = (x, y, words, anchor = "start") =>
    svg("text", { class: "tick", x, y, "text-anchor": anchor, "aria-hidden": "true" }, words);
  if (hourly) {
    const days = new Map(windows.map((name, place) => [places[place][1], name.slice(0, 10)]));
    return [
      [...days].map(([row, day]) => text(0, top + row * STEP + 10, day)),
      [0, 6, 12, 18].map((hour) => text(left + hour * STEP, 10, `${hour}:00`)),
    ];
  }
  let free = -Infinity;
  let month = "";
  const months = windows.map((name, place) => {
    const x = left + places[place][0] * STEP;
    if (name.slice(0, 7) === month || x < free) return null;
    month = name.slice(0, 7);
    free = x + 52;
    return text(x, 10, month);
  });
  return [months, [["Mon", 0], ["Wed", 2], ["Fri", 4]].map(([day, row]) => text(0, top + row * STEP + 10, day))];
}
