"""The monitor's page in Debian's Chromium, before a real monitor with real events.

Faked, by answering the page's own requests for views: fleets of fifty, long names, groups, topics
and quality over months (`page_views`), which would need months of events. Every visit checks that
no request left the monitor, nothing was said on the console, and no key stood in an address.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect

from proa.ledger.journal import Journal
from tests import chromium, journal_line
from tests.processes import Processes, wait_until
from tests.services.monitor import page_views as views
from tests.services.monitor.monitored import (
    Home,
    Monitor,
    answer_of,
    day,
    flights,
    prediction,
)

EVIL = views.EVIL
PLANTED = "planted"
PHONE: Any = {"width": 380, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all visits."""
    import os

    if (reason := chromium.missing()) is not None:
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with chromium.browser() as started:
        yield started


@pytest.fixture(scope="module")
def shown(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """A monitor that met wind on the third day, and texts that would run if they were markup."""
    pick = random.Random(5)
    columns = {EVIL: [f"{k % 3}" for k in range(3000)], "wind": flights(pick, 3000)["wind"]}
    blocks = [f"2013-03-{k // 120 + 1:02}" for k in range(3000)]
    types: Any = {EVIL: "string", "wind": "double"}
    planted = home.release(PLANTED, columns=columns, types=types, blocks=blocks)
    processes = Processes(tmp_path_factory.mktemp("processes"))
    root = tmp_path_factory.mktemp("page")
    journal = Journal(root / "journal.db")
    promoted = {"model": "flight-delay", "release": home.flight, "reason": "won its exam"}
    journal_line.write(journal, "1", **promoted)
    journal.close()
    monitor = Monitor(home.fresh(root), processes)
    events: list[Any] = []
    for number in range(1, 7):
        time = day(f"2013-04-0{number}")
        shift = 9.0 if number > 2 else 0.0
        events += [prediction(home, pick, time=time, shift=shift) for _ in range(150)]
    texts: Any = {"question": EVIL, "answer": EVIL}
    events += [answer_of(home, pick, time=day("2013-04-05"), **texts) for _ in range(120)]
    odd: Any = {"model": PLANTED, "release": planted, "outputs": {}}
    for _ in range(120):
        inputs = {EVIL: [EVIL], "wind": [9.0]}
        events.append(prediction(home, pick, time=day("2013-04-05"), **odd | {"inputs": inputs}))
    assert not monitor.take(events)["rejected"]
    try:
        path = "/v1/findings?model=flight-delay&open=true"
        wait_until(lambda: monitor.get(path)["findings"], 30, what="a finding", every=0.1)
        yield monitor
    finally:
        monitor.client.close()
        processes.close()


class Visits:
    """`visit(address, key=…, answers=…, **context) -> Page`, and what all visits must keep."""

    def __init__(self, browser: Browser, monitor: Monitor) -> None:
        self._browser, self._monitor = browser, monitor
        self._contexts: list[BrowserContext] = []
        self._said: list[str] = []
        self._asked: list[str] = []
        self._allowed: list[str] = []

    def __call__(
        self,
        address: str = "#/",
        *,
        key: str | None = "read",
        answers: dict[str, Any] | None = None,
        **more: Any,
    ) -> Page:
        """Open the page.

        Args:
            key: whose key is signed in already.
            answers: path to the JSON that the monitor shall seem to answer.
            more: of the browser's context.
        """
        context = self._browser.new_context(**more)
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._said.append(str(error)))
        page.on("request", lambda request: self._asked.append(request.url))
        if key is not None:
            text = self._monitor.home.keys[key]
            page.add_init_script(f"sessionStorage.setItem('proa-key', '{text}')")
        if answers is not None:
            page.route("**/v1/view/**", lambda route: _answer(route, answers))
        page.goto(f"{self._monitor.url}/{address}")
        return page

    def _hear(self, line: ConsoleMessage) -> None:
        self._said.append(line.text)

    def allow(self, text: str) -> None:
        """The console may say something with this text."""
        self._allowed.append(text)

    def end(self) -> None:
        """Close everything and look at what was asked and said."""
        for context in self._contexts:
            self._asked.extend(page.url for page in context.pages)
            context.close()
        assert [url for url in self._asked if not url.startswith(f"{self._monitor.url}/")] == []
        secrets = [key.split("_", 2)[2] for key in self._monitor.home.keys.values()]
        assert [url for url in self._asked if any(one in url for one in secrets)] == []
        assert [t for t in self._said if not any(one in t for one in self._allowed)] == []


@pytest.fixture
def visit(browser: Browser, shown: Monitor) -> Iterator[Visits]:
    """See `Visits`."""
    visits = Visits(browser, shown)
    yield visits
    visits.end()


def _answer(route: Route, answers: dict[str, Any]) -> None:
    path = unquote(urlsplit(route.request.url).path)
    route.fulfill(json=answers[path])


def made_up(model: dict[str, Any]) -> dict[str, Any]:
    """Answers for a page of one made-up model."""
    return {f"/v1/view/models/{model['name']}": model, "/v1/view/fleet": views.fifty()}


def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return wide <= 0


def colour(page: Page) -> str:
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


def test_a_key_opens_the_fleet_and_a_model(visit: Visits, shown: Monitor) -> None:
    page = visit(key=None)
    page.get_by_label("Key", exact=True).fill(shown.home.keys["read"])
    page.keyboard.press("Enter")
    rows = page.locator("table.models tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("flight-delay")  # what needs a look comes first
    expect(rows.first).to_contain_text("warning")

    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("flight-delay")
    drift = page.locator("table.findings tr", has_text="feature drift").filter(has_text="wind")
    expect(drift).to_contain_text("2013-04-03")
    drift.get_by_role("link").click()
    expect(page.locator(".chosen h3")).to_have_text("wind")
    assert "feature=wind" in page.url
    expect(page.locator(".histogram rect.now").first).to_be_attached()
    page.get_by_text("Examples of wind").click()
    expect(page.locator("#examples .example").first).to_contain_text("probability")

    page.locator("#releases").get_by_role("link", name="flight-delay/1").click()
    page.wait_for_url("**release=*")
    page.get_by_role("slider").press("Home")  # another window may be another release's
    page.wait_for_url("**window=2013-04-01*")
    assert "release=" not in page.url
    expect(page.locator("#window-title")).to_contain_text("2013-04-01")

    page.get_by_role("link", name="fleet").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_key_that_may_not_read_leads_back_with_the_reason(visit: Visits, shown: Monitor) -> None:
    page = visit(key="call")
    visit.allow("403")
    expect(page.get_by_role("alert")).to_contain_text("read")
    page.get_by_label("Key", exact=True).fill("proa_no_such_key")
    visit.allow("401")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("key")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()


def test_what_users_wrote_stays_text(visit: Visits) -> None:
    page = visit(f"#/models/{PLANTED}")
    expect(page.locator(".contribution .name").first).to_have_text(EVIL)  # a feature's name
    page.locator(".contribution a", has_text="<img").click()
    expect(page.locator(".chosen h3")).to_have_text(EVIL)
    page.get_by_text("Examples of").click()
    expect(page.locator("#examples dd").first).to_have_text(EVIL)  # a category
    page.goto(page.url.partition("#")[0] + "#/models/python-help")
    expect(page.get_by_role("heading", level=1)).to_contain_text("python-help")
    page.locator("#examples summary").click()
    expect(page.locator("#examples .question").first).to_have_text(EVIL)
    assert page.evaluate("window.planted") is None

    model = views.classic(EVIL)
    model["story"][0] |= {"title": EVIL, "text": EVIL, "who": EVIL}
    model["findings"][0] |= {"subject": EVIL, "message": EVIL}
    model["slices"][0]["slice"] = EVIL
    model["notes"] = [EVIL]
    model["language"] = {"topics": [{"name": EVIL, "then": 0.1, "now": 0.2, "rows": 1,
                                     "holds": True}], "signals": []}  # fmt: skip
    fleet = views.fleet([views.fleet_row(EVIL) | {"health": views.health("critical", EVIL)}])
    page = visit(answers={f"/v1/view/models/{EVIL}": model, "/v1/view/fleet": fleet})
    page.get_by_role("rowheader").get_by_role("link").click()
    expect(page.locator("h1 .title")).to_have_text(EVIL)
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("window.planted") is None


def test_both_themes_and_the_switch(visit: Visits) -> None:
    page = visit(color_scheme="light")
    expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")
    light, dark = "rgb(251, 250, 248)", "rgb(22, 24, 27)"
    assert colour(page) == light
    page.emulate_media(color_scheme="dark")
    assert colour(page) == dark
    page.get_by_label("Theme").select_option("light")
    assert colour(page) == light
    page.emulate_media(color_scheme="light")
    page.get_by_label("Theme").select_option("dark")
    page.reload()
    assert colour(page) == dark  # it was kept
    page.get_by_label("Theme").select_option("auto")
    assert colour(page) == light


def test_a_fleet_of_fifty_is_filtered_and_sorted_by_link(visit: Visits) -> None:
    page = visit("#/?sort=cost", answers={"/v1/view/fleet": views.fifty()})
    rows = page.locator("table.models tbody tr")
    expect(rows).to_have_count(50)
    costs = [row.split(" ")[0] for row in page.locator("td.cost .figure").all_inner_texts()]
    figures = [float(text.split("\u202f")[0]) for text in costs if text[0].isdigit()]
    assert figures == sorted(figures, reverse=True)
    assert page.locator("th[aria-sort]").inner_text().startswith("Cost")
    page.get_by_role("searchbox").press_sequentially("oslo")
    expect(rows).to_have_count(10)
    expect(page.get_by_role("searchbox")).to_be_focused()
    assert "q=oslo" in page.url
    page.get_by_role("searchbox").fill("nothing such")
    expect(page.get_by_text("No model matches")).to_be_visible()
    assert page.get_by_text("not enough data").count() == 0
    page.get_by_role("searchbox").fill("churn-quito")
    expect(page.locator("td.drift")).to_contain_text("not enough data")  # never a zero


def test_an_empty_fleet_says_what_to_do(visit: Visits) -> None:
    page = visit(answers={"/v1/view/fleet": views.fleet([])})
    expect(page.get_by_text("No event has come yet")).to_be_visible()


def test_a_phone_shows_every_kind_without_sideways_scrolling(visit: Visits) -> None:
    models = [
        views.classic(),
        views.language_model(),
        views.with_groups(),
        views.classic(views.LONG),
    ]
    answers = {f"/v1/view/models/{model['name']}": model for model in models}
    answers["/v1/view/fleet"] = views.fifty()
    page = visit(answers=answers, color_scheme="dark", viewport=PHONE)
    expect(page.locator("table.models tbody tr")).to_have_count(50)
    assert fits(page)
    root = page.url.partition("#")[0]
    for model in models:
        page.goto(f"{root}#/models/{model['name']}")
        expect(page.get_by_role("heading", level=1)).to_contain_text(model["name"])
        expect(page.locator(".timeline svg")).to_be_visible()
        assert fits(page), model["name"]
        for fold in page.locator("details:not(#examples) > summary").all():
            fold.click()
        assert fits(page), model["name"]
        assert page.evaluate(_UNNAMED) == []  # what is seen is heard
        assert page.get_by_role("table").count() >= 3
        assert page.get_by_role("slider").get_attribute("aria-valuetext")
        gap = page.get_by_text("sex, equal opportunity: gap 9.0")
        expect(gap).to_have_count(int(model["fairness"] is not None))
        topics = page.locator("#language li").filter(has_text="asyncio")
        expect(topics).to_have_count(int(model["language"] is not None))


_UNNAMED = """() => [...document.querySelectorAll("a, button, input, select, [role], section")]
  .filter((e) => !["row", "cell", "rowgroup", "group"].includes(e.getAttribute("role")))
  .filter((e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby")
    && !e.labels?.length && !e.textContent.trim() && !e.hidden)
  .map((e) => e.outerHTML.slice(0, 120))"""


def test_everything_is_reached_by_keyboard(visit: Visits) -> None:
    page = visit("#/models/flight-delay", answers=made_up(views.classic()))
    expect(page.locator(".timeline svg")).to_be_visible()
    reached: list[str] = []
    for _ in range(70):
        page.keyboard.press("Tab")
        place: str = page.evaluate(_FOCUSED)
        if place == "none seen":
            pytest.fail(f"after {reached[-1:]} the focus cannot be seen")
        reached.append(place)
    names = " ".join(reached)
    for wanted in ("Skip to content", "Theme", "Sign out", "calibration", "Window", "wind_speed"):
        assert wanted in names, wanted
    for wanted in ("Numbers", "Examples", "2013-04-29: drift", "flight-delay/7"):
        assert wanted in names, wanted

    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("slider")).to_be_focused()
    assert "window=2013-04-28" in page.url
    page.locator(".calendar a[tabindex='0']").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_url("**window=2013-03-01*")


_FOCUSED = """() => {
  const active = document.activeElement;
  if (active === document.body) return "body";
  const style = getComputedStyle(active);
  const mark = active.querySelector("rect.window");
  const stroked = mark && getComputedStyle(mark).strokeWidth !== "1.6px";
  const drawn = mark ? stroked : parseFloat(style.outlineWidth) > 0;
  if (!drawn) return "none seen";
  return active.getAttribute("aria-label") ?? active.innerText ?? active.textContent;
}"""


def test_a_monitor_that_went_away_is_named_and_what_was_shown_stays(visit: Visits) -> None:
    page = visit()
    expect(page.locator("table.models tbody tr")).to_have_count(3)
    visit.allow("ERR_FAILED")
    page.route("**/v1/view/**", lambda route: route.abort())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("status")).to_contain_text("cannot be reached")
    expect(page.locator("table.models tbody tr")).to_have_count(3)
    page.unroute("**/v1/view/**")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("status")).to_have_count(0)


def test_a_model_that_nobody_knows_is_not_found(visit: Visits) -> None:
    page = visit("#/models/none%2Fsuch")
    visit.allow("404")
    expect(page.get_by_role("alert")).to_contain_text("Not found")
    page.get_by_role("link", name="Back to the fleet").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")


FOLDER = Path(__file__).parents[3] / "services" / "proa_monitor" / "page"


def test_files_come_with_their_policy_and_views_by_right(shown: Monitor) -> None:
    for name in ("", *(f"page/{path.name}" for path in FOLDER.iterdir())):
        answer = shown.client.get(f"{shown.url}/{name}")
        assert answer.status_code == 200, name
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        again = {"if-none-match": answer.headers["etag"]}
        assert shown.client.get(f"{shown.url}/{name}", headers=again).status_code == 304
    html = (FOLDER / "index.html").read_text()
    assert "style=" not in html
    assert "<style" not in html
    assert shown.client.get(f"{shown.url}/page/..%2Fapp.py").status_code == 404
    assert shown.client.get(f"{shown.url}/page/none.js").status_code == 404
    for path in ("fleet", "models/flight-delay", "models/flight-delay/examples"):
        assert shown.ask(f"/v1/view/{path}", key="call").status_code == 403
        assert shown.client.get(f"{shown.url}/v1/view/{path}").status_code == 401
        assert shown.ask(f"/v1/view/{path}").headers["cache-control"] == "no-store"


def test_examples_are_of_the_bin_that_grew(shown: Monitor) -> None:
    path = "/v1/view/models/flight-delay/examples?window=2013-04-05"
    windy = shown.get(f"{path}&feature=wind")
    low = float(windy["bin"].split("…")[0]) if "…" in windy["bin"] else 19.0
    assert len(windy["examples"]) == 8
    assert all(one["inputs"]["wind"] >= low for one in windy["examples"])
    assert {one["time"][:10] for one in windy["examples"]} == {"2013-04-05"}
    assert len(shown.get(path)["examples"]) == 8
    told = shown.get("/v1/view/models/python-help/examples?feature=question_characters")
    assert told["examples"][0]["value"] == f"question_characters: {len(EVIL)}"


def test_views_say_what_is_known(shown: Monitor) -> None:
    fleet = {row["name"]: row for row in shown.get("/v1/view/fleet")["models"]}
    row = fleet["flight-delay"]
    assert row["health"]["state"] == "warning"
    assert (row["traffic"]["calls"], row["traffic"]["window"]) == (150, "2013-04-06")
    assert row["series"]["calls"] == [150] * 6
    assert row["cost"] is None
    assert fleet["python-help"]["kind"] == "llm"

    model = shown.get("/v1/view/models/flight-delay?window=2013-04-02")
    detail = model["detail"]
    assert (detail["window"], detail["state"], detail["rows"]) == ("2013-04-02", "no drift", 150)
    wind = next(one for one in detail["features"] if one["name"] == "wind")
    assert sum(wind["counts"]) == 150
    assert len(wind["counts"]) == len(wind["reference"]) == len(wind["bins"])
    (mark,) = model["marks"]
    assert (mark["short"], mark["what"], mark["who"]) == ("flight-delay/1", "promoted", "ann")
    assert model["fairness"] is None
    assert model["findings"][0]["until"] is None
    titles = [item["title"] for item in model["story"]]
    assert titles[0] == "flight-delay/1 promoted"  # today, in a story of 2013
    assert titles[-1] == "flight-delay/1 first met as champion"
    assert "feature drift: wind" in titles
    assert shown.ask("/v1/view/models/flight-delay?window=1999-01-01").status_code == 404
    assert shown.ask("/v1/view/models/none").status_code == 404
