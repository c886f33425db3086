// How grave something is: a colour, a form and a word, so that no one of them is needed.

import { element } from "./element.js";

const WORDS = {
  critical: "critical",
  warning: "warning",
  info: "note",
  quiet: "quiet",
  unknown: "too little data",
  unwatched: "not watched",
};

/** A dot and a word: that of the state, or another. */
export function badge(state, word = WORDS[state] ?? state) {
  return element("span", { class: `badge ${state in WORDS ? state : "unknown"}` }, dot(state), word);
}

/** The dot alone, said for those who do not see it. */
export function dot(state, said = null) {
  return element(
    "span",
    { class: `dot ${state in WORDS ? state : "unknown"}` },
    said ? element("span", { class: "hidden" }, said) : null,
  );
}
