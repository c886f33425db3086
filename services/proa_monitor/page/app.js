// The page: what the address asks for, fetched with the reader's key, drawn, and kept fresh.

import { element } from "./element.js";
import { fleet } from "./fleet.js";
import { masthead } from "./masthead.js";
import { model } from "./model.js";
import { go, here, link } from "./route.js";
import { ask, key, Refusal, signIn, signOut } from "./session.js";
import { signin } from "./signin.js";

const FRESH_MS = 30_000;

const main = document.getElementById("main");
const top_ = document.getElementById("masthead");
let shown = "";
let view = null;
let reason = null;
let running = null;
let timer = null;

addEventListener("hashchange", () => show());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && key()) show({ fresh: true });
});
show();

async function show({ fresh = false } = {}) {
  clearTimeout(timer);
  if (!key()) return leave(reason);
  const route = here();
  const address = addressOf(route);
  running?.abort();
  running = new AbortController();
  if (!fresh && address !== shown) main.setAttribute("aria-busy", "true");
  try {
    // What only filters or sorts is drawn again from what is here.
    if (fresh || address !== shown || view === null) view = await ask(address, running.signal);
    draw(route, address);
    timer = setTimeout(() => !document.hidden && show({ fresh: true }), FRESH_MS);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refusal)) throw error;
    refuse(error, route, fresh);
  } finally {
    main.removeAttribute("aria-busy");
  }
}

function addressOf({ view: name, name: model_, asked }) {
  if (name === "fleet") return "/v1/view/fleet";
  const query = new URLSearchParams();
  for (const part of ["window", "release", "track"]) if (asked[part]) query.set(part, asked[part]);
  return `/v1/view/models/${encodeURIComponent(model_)}${query.size ? `?${query}` : ""}`;
}

function draw(route, address) {
  const where = address.split("?")[0];
  const moved = where !== shown.split("?")[0];
  head(route.view === "model" ? [["fleet", "#/"], [route.name, null]] : [["fleet", null]]);
  document.title = route.view === "model" ? `${route.name} · proa` : "Fleet · proa";
  const node = route.view === "model" ? model(view, route.asked, go, ask) : fleet(view, route.asked, go);
  swap(node, moved);
  shown = address;
}

// Put the new page in the place of the old one: focus, open folds and the cursor stay where they
// were, unless the reader went to another page.
function swap(node, moved) {
  const kept = moved ? {} : keep();
  main.replaceChildren(node);
  if (moved) {
    scrollTo(0, 0);
    if (shown) main.focus({ preventScroll: true });
    return;
  }
  for (const fold of main.querySelectorAll("details[data-keep]")) fold.open = kept.open.has(fold.dataset.keep);
  const target = kept.find?.();
  target?.focus({ preventScroll: true });
  if (kept.cursor !== undefined && target?.setSelectionRange) target.setSelectionRange(kept.cursor, kept.cursor);
}

function keep() {
  const open = new Set([...main.querySelectorAll("details[data-keep][open]")].map((fold) => fold.dataset.keep));
  const active = document.activeElement;
  if (!main.contains(active)) return { open };
  const holder = active.closest("[data-keep]")?.dataset.keep;
  const address = active.getAttribute("href");
  const window_ = active.dataset?.window;
  return {
    open,
    cursor: active.selectionStart ?? undefined,
    find: () => {
      const area = holder ? main.querySelector(`[data-keep="${holder}"]`) : main;
      if (!area) return null;
      if (window_) return area.querySelector(`[data-window="${CSS.escape(window_)}"]`);
      if (address) return area.querySelector(`a[href="${CSS.escape(address)}"]`);
      return active.tagName === "SUMMARY" ? area.querySelector("summary") : area;
    },
  };
}

function head(crumbs) {
  const focused = top_.contains(document.activeElement) ? document.activeElement.id : null;
  const signedIn = Boolean(key());
  top_.replaceChildren(masthead({ crumbs, signedIn, onSignOut: () => leave(null) }));
  if (focused) document.getElementById(focused)?.focus();
}

function leave(why) {
  clearTimeout(timer);
  running?.abort();
  signOut();
  view = null;
  shown = "";
  reason = null;
  head([]);
  document.title = "Sign in · proa";
  const form = signin({
    reason: why,
    onKey: (text) => {
      signIn(text);
      show();
    },
  });
  main.replaceChildren(form);
  form.querySelector("#key").focus();
}

function refuse(error, route, fresh) {
  if (error.status === 401 || error.status === 403) {
    leave(error.message);
    return;
  }
  timer = setTimeout(() => show({ fresh: true }), FRESH_MS);
  const old = main.querySelector(".stale");
  if (fresh && view) {
    old?.remove();
    main.prepend(element("p", { class: "stale", role: "status" }, error.message));
    return;
  }
  view = null;
  shown = "";
  head(route.view === "model" ? [["fleet", "#/"], [route.name, null]] : [["fleet", null]]);
  const back = route.view === "model" ? element("p", {}, element("a", { href: link(null) }, "Back to the fleet")) : null;
  main.replaceChildren(element("div", { class: "refused", role: "alert" }, element("h1", {}, error.status === 404 ? "Not found" : "No answer"), element("p", {}, error.message), error.hint ? element("p", { class: "note" }, error.hint) : null, back));
}
