// The form for a key.

import { element } from "./element.js";

/** Args: `reason` why it is shown again, or null; `onKey(text)`. */
export function signin({ reason, onKey }) {
  const input = element("input", {
    id: "key",
    name: "key",
    type: "password",
    required: true,
    autocomplete: "current-password",
    autocapitalize: "off",
    spellcheck: "false",
    "aria-describedby": reason ? "reason about-key" : "about-key",
    "aria-invalid": reason ? "true" : null,
  });
  const submit = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text) onKey(text);
  };
  return element(
    "section",
    { class: "signin" },
    element("h1", {}, "Monitor"),
    element(
      "form",
      { on: { submit } },
      // Password managers want a name to keep the key under.
      element("input", { type: "text", name: "username", autocomplete: "username", value: "proa", hidden: true }),
      element("label", { for: "key" }, "Key"),
      element("div", { class: "entry" }, input, element("button", { type: "submit" }, "Sign in")),
      reason ? element("p", { id: "reason", class: "reason", role: "alert" }, reason) : null,
      element(
        "p",
        { id: "about-key", class: "note" },
        "A key with the right ",
        element("code", {}, "read"),
        ". It stays in this tab and goes nowhere but to this monitor. ",
        element("code", {}, "proa keys create --team … --feature page --right read"),
        " makes one.",
      ),
    ),
  );
}
