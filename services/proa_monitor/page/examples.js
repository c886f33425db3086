// Calls of one window, fetched when they are asked for: texts of users, shown as texts.

import { element } from "./element.js";
import { count } from "./figure.js";
import { moment } from "./moment.js";

/** Args: `load()` gives the answer of `/v1/view/models/NAME/examples`; `subject` what they show. */
export function examples(subject, load) {
  const place = element("div", { class: "examples-list" });
  const details = element(
    "details",
    { id: "examples", "data-keep": "examples" },
    element("summary", {}, `Examples${subject ? ` of ${subject}` : ""}`),
    place,
  );
  let asked = false;
  details.addEventListener("toggle", async () => {
    if (!details.open || asked) return;
    asked = true;
    place.replaceChildren(element("p", { class: "note" }, "Reading events …"));
    try {
      place.replaceChildren(...list(await load()));
    } catch (error) {
      asked = false;
      place.replaceChildren(element("p", { class: "reason", role: "alert" }, error.message));
    }
  });
  return details;
}

function list(found) {
  if (!found.examples.length) return [element("p", { class: "note" }, "No call of this window is held any more.")];
  return [
    element("p", { class: "note" }, `${found.why} ${count(found.examples.length)} shown.`),
    ...found.examples.map((example) =>
      element(
        "article",
        { class: "example" },
        element("header", {}, moment(example.time), element("code", {}, example.request ?? ""), example.status >= 400 ? element("span", { class: "over" }, `status ${example.status}`) : null),
        example.question === null || example.question === undefined ? columns(example) : talk(example),
      ),
    ),
  ];
}

function talk(example) {
  return [
    element("p", { class: "question" }, example.question),
    element("p", { class: "answer" }, example.answer ?? "no answer"),
    example.value === null || example.value === undefined ? null : element("p", { class: "soft" }, example.value),
  ];
}

function columns(example) {
  const pairs = [...Object.entries(example.inputs), ...Object.entries(example.outputs).map(([name, value]) => [`→ ${name}`, value])];
  return element(
    "dl",
    { class: "row" },
    pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, said(value)))),
  );
}

function said(value) {
  if (value === null || value === undefined) return "null";
  return typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value);
}
