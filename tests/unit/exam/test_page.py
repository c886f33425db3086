"""`verdict.html` and what it says. Evidence is written here; nothing is faked."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from proa.exam import report
from proa.exam.bars import bar
from proa.exam.page import verdict_page
from proa.exam.rules import Rules
from proa.exam.verdict import judge

HOSTILE = """</p></details><script>alert('x')</script><img src=x onerror="alert(1)">
<style>*{display:none}</style><a href="javascript:alert(1)">click</a> &lt;b&gt; ' " ]]>"""
LLM: dict[str, Any] = {
    "version": 1, "kind": "llm", "unit": "task", "tasks": "golden.jsonl",
    "primary": {"metric": "passed", "margin": 0.05, "higher_is_better": True},
    "floors": [{"metric": "passed", "suite": "answer", "min": 0.5}], "safety": ["pii"],
    "bootstrap": {"resamples": 200},
}  # fmt: skip


def task(name: str, passed: bool, answer: str | None = "fine", **more: Any) -> dict[str, Any]:
    return {
        "id": name, "unit": name, "suite": "answer", "passed": passed, "error": None,
        "blame": None, "question": f"Question {name}?", "answer": answer, "citations": ["doc#1"],
        "failures": [] if passed else [f"contains: {answer!r} lacks it"], **more,
    }  # fmt: skip


def llm_evidence(text: str = "plain") -> dict[str, Any]:
    from proa.exam.evidence import make_evidence

    made = make_evidence(
        model="python-help", rules=Rules.model_validate(LLM), data="sha256:" + "c" * 64,
        runtime="sha256:" + "d" * 64, candidate="sha256:" + "b" * 64, candidate_results=[],
        champion="sha256:" + "a" * 64, champion_results=[],
    )  # fmt: skip
    safe = [task(f"p{n}", True, suite="pii") for n in range(3)]
    made["candidate_results"] = [
        task("both", False, text, question=text, citations=[text]),
        task("worse", False, text, tokens_in=10, tokens_out=4, latency_ms=12.0),
        task("wavers", True, repeats=[False, True]),
        *(task(f"t{n}", True) for n in range(7)),
        *safe[:2], task("p2", False, text, suite="pii"),
    ]  # fmt: skip
    made["champion_results"] = [
        task("both", False, None, error=text, blame="model"),
        task("worse", True), task("wavers", True, repeats=[True, True]),
        *(task(f"t{n}", True) for n in range(7)), *safe,
    ]  # fmt: skip
    return made


class Reader(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        if tag not in ("meta", "line", "rect", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [], "every element is closed"
    return reader


def page_of(evidence: dict[str, Any], **names: str) -> str:
    return verdict_page(
        judge(evidence).to_json(), evidence,
        names={"candidate": "python-help/2", "champion": "python-help/1", **names},
        facts={"judged": "today"},
    )  # fmt: skip


def test_nothing_that_a_model_says_becomes_html() -> None:
    page = page_of(llm_evidence(HOSTILE), candidate=f"x{HOSTILE}")
    reader = read(page)
    assert {"script", "img", "a", "link", "iframe"}.isdisjoint(reader.tags)
    assert reader.tags.count("style") == 1
    assert not [key for key, _ in reader.attributes if key.startswith("on")]
    assert not [key for key, _ in reader.attributes if key in ("src", "href")]
    assert "<script>alert('x')</script>" in reader.text, "shown as the text it is"
    assert "default-src 'none'" in page


def test_the_page_stands_alone_in_both_schemes() -> None:
    page = page_of(llm_evidence())
    assert not re.search(r"https?://|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page
    assert "max-width: 44rem" in page


def test_failing_tasks_come_side_by_side_safety_and_regressions_first() -> None:
    found = report.failed_tasks(llm_evidence())
    assert [item.mine["id"] for item in found] == ["p2", "worse", "wavers", "both"]
    assert [item.verdict for item in found] == [
        "champion passes", "champion passes", "champion passes", "champion fails too",
    ]  # fmt: skip
    text = " ".join(read(page_of(llm_evidence())).text.split())
    assert "4 failing, of which the champion passes 3" in text
    assert "candidatefail, 2 of 3 runs passed" in text
    assert "10 tokens in, 4 out; an answer took 12 ms" in text


def test_suites_are_counted_by_the_share_of_runs() -> None:
    shares = {suite.name: suite for suite in report.suite_shares(llm_evidence())}
    assert shares["answer"].candidate == pytest.approx((7 + 2 / 3) / 10)
    assert shares["answer"].champion == pytest.approx(9 / 10)
    assert (shares["pii"].safety, shares["answer"].safety) == (True, False)


def test_a_cut_exam_says_so_and_lost_evidence_leaves_the_checks() -> None:
    evidence = {**llm_evidence(), "asked": {"tasks": 13, "of": 40, "looks": 1, "rest": {}}}
    assert "13 of 40 tasks were asked" in read(page_of(evidence)).text
    found = judge(llm_evidence()).to_json()
    alone = read(verdict_page(found, None, names={}, facts={})).text
    assert "Floors" in alone
    assert "Failing tasks" not in alone


def test_rows_that_cost_most() -> None:
    rules = {"kind": "classic", "task": "binary", "classes": [], "unit": "day"}
    rows = [
        {"id": f"r{n}", "unit": "d", "suite": "rows", "label": 1.0, "value": value, "error": None}
        for n, value in enumerate([0.9, 0.1, 0.5])
    ]
    others = [{**row, "value": 0.8} for row in rows]
    evidence = {"rules": rules, "candidate_results": rows, "champion_results": others}
    found = report.costly_rows(evidence)
    assert [row.result["id"] for row in found] == ["r1", "r2"]
    assert found[0].loss == pytest.approx(2.0794415)
    rules["task"], rules["classes"] = "multiclass", ["a", "b"]
    several = [{**rows[0], "label": "b", "value": [0.9, 0.1]}]
    evidence = {"rules": rules, "candidate_results": several, "champion_results": None}
    assert report.costly_rows(evidence)[0].loss == pytest.approx(2.302585)


def test_bars_share_a_scale_within_a_metric() -> None:
    wide = {"name": "auc of a", "kind": "comparison", "interval": [-0.2, 0.1], "bound": 0.01,
            "value": 0.7, "champion": 0.75}  # fmt: skip
    small = {**wide, "name": "auc of b", "interval": [-0.02, 0.01]}
    widths = [
        float(
            re.search(r'rect x="[\d.]+" y="[\d.]+" width="([\d.]+)"', bar(check, [wide, small]))[1]
        )  # type: ignore[index]
        for check in (wide, small)
    ]
    assert widths[0] == pytest.approx(10 * widths[1], rel=0.05)
    assert bar({**wide, "interval": None}, [wide]) == ""
    assert bar({**wide, "interval": [float("nan"), 1.0]}, [wide]) == ""


def test_the_terminal_shows_both_answers_and_is_not_steered_by_them() -> None:
    from rich.console import Console

    from proa.cli.explain import explanation

    evidence = llm_evidence("wrong \x1b[2J\x9b31m [bold]answer[/bold]")
    console = Console(width=100, force_terminal=True, color_system=None, record=True)
    with console.capture() as captured:
        console.print(explanation(evidence, judge(evidence).to_json()["checks"]))
    text = captured.get()
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "[bold]answer[/bold]" in text, "an answer is no markup"
    assert re.search(r"candidate: fail +champion: pass", text)
    assert "candidate: fail, 2 of 3 runs passed" in text
