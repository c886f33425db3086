"""`verdict.html`: one exam on one page, offline, light and dark, without a script.

Everything that came from a model, a user or a file is escaped; the page's policy forbids scripts
and every request besides.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from proa.exam import report
from proa.exam.bars import bar
from proa.exam.page_style import STYLE

_KINDS: Final = {
    "integrity": "Is the evidence whole?",
    "safety": "Safety: nothing may fail",
    "floor": "Floors",
    "comparison": "Against the champion",
    "slice": "Slices",
}
_WORDS: Final = {"pass": "Pass", "fail": "Fail", "inconclusive": "Inconclusive"}
_TASKS_SHOWN: Final = 200
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def verdict_page(
    verdict: Mapping[str, Any],
    evidence: Mapping[str, Any] | None,
    *,
    names: Mapping[str, str],
    facts: Mapping[str, str],
) -> str:
    """The page.

    Args:
        verdict: as `Verdict.to_json`.
        evidence: None when it is no longer kept; then only the checks are shown.
        names: `candidate` and `champion` as people call them.
        facts: what else to say at the end (judged when and by whom, cost, Python, platform).
    """
    who = names.get("candidate", verdict["candidate"][:19])
    parts = [_head(verdict, names, evidence), *_checks(verdict["checks"])]
    if evidence is not None:
        parts += [_suites(evidence), _failed(evidence), _rows(evidence)]
    parts.append(_end(verdict, evidence, facts))
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{_e(who)}: {_e(verdict['value'])}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(part for part in parts if part)}</main>\n</body>\n</html>\n"
    )


def _e(value: object) -> str:
    return html.escape(str(value), quote=True)


def _head(
    verdict: Mapping[str, Any], names: Mapping[str, str], evidence: Mapping[str, Any] | None
) -> str:
    value = verdict["value"]
    against = (
        "its first exam, no champion to compare with"
        if verdict["champion"] is None
        else f"against the champion <b>{_e(names.get('champion', verdict['champion'][:19]))}</b>"
    )
    asked = (evidence or {}).get("asked")
    cut = (
        ""
        if not asked
        else f"<p class='note'>Ended early, as it was lost: {asked['tasks']:,} of {asked['of']:,} "
        f"tasks were asked.</p>"
    )
    return (
        f"<header class='{_e(value)}'><p class='over'>Exam of {_e(verdict['model'])}</p>"
        f"<h1>{_e(names.get('candidate', verdict['candidate'][:19]))} "
        f"<span class='badge'>{_e(_WORDS.get(value, value))}</span></h1>"
        f"<p class='why'>{_e(verdict['reason'])}</p><p class='note'>{against}</p>{cut}</header>\n"
    )


def _checks(checks: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    for kind, title in _KINDS.items():
        found = [check for check in checks if check["kind"] == kind]
        if kind == "slice":
            found.sort(key=_slice_order)
        if not found:
            continue
        rows = "".join(_check(check, found) for check in found)
        compared = any(check.get("champion") is not None for check in found)
        head = "<th class='dot'></th><th class='name'>check</th><th class='n'>candidate</th>"
        head += f"<th class='n'>{'champion' if compared else 'bound'}</th><th>reading</th>"
        table = (
            f"<table class='checks {_e(kind)}'><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )
        if kind == "slice" and len(found) > 8:
            harmed = sum(check["outcome"] != "pass" for check in found)
            line = f"{len(found)} slices, {harmed} proven worse"
            opened = " open" if harmed else ""
            table = f"<details{opened}><summary>{line}</summary>{table}</details>"
        yield f"<section><h2>{_e(title)}</h2>{table}</section>\n"


def _slice_order(check: Mapping[str, Any]) -> tuple[bool, float]:
    interval = check.get("interval")
    return check["outcome"] == "pass", abs(interval[0] + interval[1]) * -1 if interval else 0.0


def _check(check: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    outcome = check["outcome"]
    side = check.get("champion")
    if side is None:
        side = check.get("bound")
    return (
        f"<tr class='{_e(outcome)}'><td class='dot' title='{_e(outcome)}'>"
        f"<i></i><span class='hidden'>{_e(outcome)}</span></td>"
        f"<td class='name'>{_e(check['name'])}</td><td class='n'>{_figure(check.get('value'))}</td>"
        f"<td class='n'>{_figure(side)}</td>"
        f"<td class='reading'>{bar(check, others)}"
        f"<span>{_e(check.get('note', ''))}</span></td></tr>"
    )


def _figure(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:,.4g}" if isinstance(value, int | float) else _e(value)


def _suites(evidence: Mapping[str, Any]) -> str:
    shares = report.suite_shares(evidence)
    if not shares:
        return ""
    rows = "".join(
        f"<tr><td class='name'>{_e(suite.name)}"
        f"{' <small>safety</small>' if suite.safety else ''}</td><td class='n'>{suite.tasks:,}</td>"
        f"<td class='n'>{_percent(suite.candidate)}</td>"
        f"<td class='n'>{_percent(suite.champion)}</td>"
        f"<td class='meter'><div><i style='width:{100 * suite.candidate:.1f}%'></i>"
        + (
            ""
            if suite.champion is None
            else f"<b style='left:{100 * suite.champion:.1f}%' title='champion'></b>"
        )
        + "</div></td></tr>"
        for suite in shares
    )
    return (
        "<section><h2>Suites</h2><table class='suites'><thead><tr><th>suite</th>"
        "<th class='n'>tasks</th><th class='n'>candidate</th><th class='n'>champion</th>"
        "<th class='meter'>passed; the line is the champion</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>\n"
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _failed(evidence: Mapping[str, Any]) -> str:
    tasks = report.failed_tasks(evidence)
    if evidence["rules"]["kind"] != "llm":
        return ""
    if not tasks:
        return "<section><h2>Failing tasks</h2><p class='note'>None.</p></section>\n"
    regressed = sum(task.regressed for task in tasks)
    line = f"{len(tasks):,} failing" + (
        f", of which the champion passes {regressed:,}" if tasks[0].theirs is not None else ""
    )
    cards = "".join(map(_task, tasks[:_TASKS_SHOWN]))
    more = len(tasks) - _TASKS_SHOWN
    rest = f"<p class='note'>and {more:,} more, in the evidence.</p>" if more > 0 else ""
    return f"<section><h2>Failing tasks</h2><p class='note'>{line}</p>{cards}{rest}</section>\n"


def _task(task: report.FailedTask) -> str:
    mine = task.mine
    badge = "regressed" if task.regressed else ""
    opened = " open" if task.regressed or task.theirs is None else ""
    sides = _answer("candidate", mine)
    sides += "" if task.theirs is None else _answer("champion", task.theirs)
    return (
        f"<details class='task'{opened}><summary><span class='id'>{_e(mine['id'])}</span>"
        f"<small>{_e(mine['suite'])}</small>"
        f"<small class='{badge}'>{_e(task.verdict)}</small></summary>"
        f"<p class='question'>{_e(mine.get('question', ''))}</p>"
        f"<div class='sides'>{sides}</div></details>"
    )


def _answer(side: str, result: Mapping[str, Any]) -> str:
    runs = [result.get("passed") is True, *result.get("repeats", ())]
    times = "" if len(runs) == 1 else f", {sum(runs)} of {len(runs)} runs passed"
    answer = result.get("answer")
    body = (
        f"<p class='none'>{_e(result.get('error') or 'no answer')}</p>"
        if answer is None
        else f"<p class='answer'>{_e(answer)}</p>"
    )
    failures = "".join(f"<li>{_e(failure)}</li>" for failure in result.get("failures", ()))
    cited = result.get("citations") or ()
    sources = f"<p class='cites'>cites {', '.join(_e(item) for item in cited)}</p>" if cited else ""
    outcome = "pass" if all(runs) else "fail"
    return (
        f"<div class='side {outcome}'><h3><i></i>{_e(side)}<small>{_e(outcome)}{times}</small></h3>"
        f"{body}{sources}{f'<ul>{failures}</ul>' if failures else ''}</div>"
    )


def _rows(evidence: Mapping[str, Any]) -> str:
    rows = report.costly_rows(evidence)
    if not rows:
        return ""
    name = report.loss_name(evidence["rules"])
    unit = evidence["rules"]["unit"]
    body = "".join(
        f"<tr><td class='name'>{_e(row.result['id'])}</td><td>{_e(row.result['unit'])}</td>"
        f"<td class='n'>{_figure(row.result.get('label'))}</td>"
        f"<td class='n'>{_value(row.result.get('value'))}</td>"
        f"<td class='n'>{_value(row.champion)}</td><td class='n'>{row.loss:+.3g}</td></tr>"
        for row in rows
    )
    return (
        "<section><h2>Rows that cost most</h2>"
        f"<p class='note'>By {_e(name)}, candidate minus champion.</p>"
        f"<table class='rows'><thead><tr><th>row</th><th>{_e(unit)}</th><th class='n'>label</th>"
        "<th class='n'>candidate</th><th class='n'>champion</th><th class='n'>loss</th></tr>"
        f"</thead><tbody>{body}</tbody></table></section>\n"
    )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return _e(", ".join(f"{item:.3g}" for item in value))
    return _figure(value)


def _end(
    verdict: Mapping[str, Any], evidence: Mapping[str, Any] | None, facts: Mapping[str, str]
) -> str:
    pairs = dict(facts)
    if evidence is not None:
        for side in ("candidate", "champion"):
            found = report.totals(evidence[f"{side}_results"] or ())
            pairs |= {f"{side}": _spent(found)} if found["results"] else {}
    for key in ("candidate", "champion", "exam", "runtime", "evidence"):
        if verdict[key] is not None:
            pairs[f"{key} digest"] = verdict[key]
    body = "".join(
        f"<dt>{_e(key)}</dt><dd{' class=digest' if key.endswith('digest') else ''}>{_e(value)}</dd>"
        for key, value in pairs.items()
    )
    return f"<section><h2>Where this comes from</h2><dl>{body}</dl></section>\n"


def _spent(found: Mapping[str, float]) -> str:
    parts = [f"{found['results']:,} results"]
    if "tokens_in" in found:
        parts.append(f"{found['tokens_in']:,} tokens in, {found.get('tokens_out', 0):,} out")
    for name, word in (("latency_ms", "an answer"), ("ttft_ms", "the first token")):
        if f"{name}_mean" in found:
            mean, late = found[f"{name}_mean"], found[f"{name}_p95"]
            parts.append(f"{word} took {mean:,.0f} ms, p95 {late:,.0f} ms")
    return "; ".join(parts)
