// Where the reader is: `#/` or `#/models/NAME?window=…`. Every state has a link; keys are in none.

/** The route of the address. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map(decoded);
  const asked = Object.fromEntries(new URLSearchParams(query));
  if (parts[0] === "models" && parts[1]) return { view: "model", name: parts[1], asked };
  return { view: "fleet", name: null, asked };
}

/** The address of a model, or of the fleet without a name; empty values are left out. */
export function link(name, asked = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(asked)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  const path = name ? `#/models/${encodeURIComponent(name)}` : "#/";
  return query.size ? `${path}?${query}` : path;
}

/** Go there; `replace` leaves no step to come back to. */
export function go(address, { replace = false } = {}) {
  if (address === (location.hash || "#/")) return;
  if (!replace) {
    location.hash = address;
    return;
  }
  history.replaceState(null, "", address);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
