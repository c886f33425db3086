// A frame for charts that fill their place: drawn again when its width changes.

import { element } from "./element.js";

/** An element in which `draw(width)` puts its node, for every width it gets. */
export function frame(draw, name = "frame") {
  const node = element("div", { class: name });
  let last = 0;
  const watch = new ResizeObserver(([entry]) => {
    if (!node.isConnected) return watch.disconnect();
    const width = Math.floor(entry.contentRect.width);
    if (width < 40 || width === last) return;
    last = width;
    const focused = node.contains(document.activeElement);
    node.replaceChildren(draw(width));
    if (focused) node.querySelector("[tabindex='0']")?.focus();
  });
  watch.observe(node);
  return node;
}
