// The story: what happened to a model, the newest first, by day.

import { dot } from "./badge.js";
import { element } from "./element.js";
import { moment } from "./moment.js";

const WORDS = { finding: "found", closed: "gone", release: "release", decision: "decided" };
const SHOWN = 12;

/** Args: `story` of a model's view; `address(link)` of what an item is about. */
export function storyList(story, address) {
  if (!story.length) return null;
  const items = story.map((item) => entry(item, address));
  return element(
    "section",
    { id: "story", "aria-labelledby": "story-title" },
    element("h2", { id: "story-title" }, "How it came to this"),
    element("ol", { class: "story" }, items.slice(0, SHOWN)),
    items.length > SHOWN
      ? element("details", { "data-keep": "story" }, element("summary", {}, `${items.length - SHOWN} before that`), element("ol", { class: "story" }, items.slice(SHOWN)))
      : null,
  );
}

function entry(item, address) {
  const title = item.link ? element("a", { href: address(item.link) }, item.title) : item.title;
  return element(
    "li",
    { class: item.what },
    element("div", { class: "when" }, moment(item.time)),
    element("div", { class: "knot" }, dot(item.what === "finding" || item.severity !== "info" ? item.severity : "quiet", WORDS[item.what] ?? item.what)),
    element(
      "div",
      {},
      element("p", { class: "title" }, title),
      item.text ? element("p", { class: "soft" }, item.text) : null,
      item.who ? element("p", { class: "soft" }, `by ${item.who}`) : null,
    ),
  );
}
