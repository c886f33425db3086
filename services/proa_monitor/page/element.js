// Elements, made without ever parsing a text: what comes from a model or a user stays a text.

const SVG = "http://www.w3.org/2000/svg";
const REFUSED = /^(on|style$|srcdoc$|innerhtml$)/i;

/** An HTML element. `attributes.on` maps events to listeners; null and false leave one out. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** A chart: an SVG of that size in CSS pixels, read out as `label`. */
export function chart(width, height, label, ...children) {
  const size = { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" };
  return svg("svg", { ...size, "aria-label": label }, ...children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
      continue;
    }
    if (REFUSED.test(name)) throw new Error(`attribute ${name} is not set here`);
    // Links stay on this page, so no text can become an address that runs.
    if (name === "href" && !String(value).startsWith("#")) throw new Error(`href ${value}`);
    node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}
