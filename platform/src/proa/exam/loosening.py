"""Is an exam looser than the one before? A pure rule over two summaries.

Adding is free; what is removed, lowered or changed in a way that cannot be ordered counts as
loosening, and needs a second person (design §3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from proa.exam.exam import Exam
from proa.release.canonical import digest_json

Summary = Mapping[str, Any]
"""`rules` as JSON, `tasks` {id: digest} for an llm, `rows` and `units` counted."""
_FEWER = 0.5  # a classic exam's window moves on; half as much to say is something else


def summarize(evidence: Mapping[str, Any], tasks: Mapping[str, str] | None = None) -> Summary:
    """What an exam asks for, from its evidence.

    Args:
        tasks: digest of each golden task with its expectations; without it tasks are told apart
            by id and suite alone.
    """
    results, asked = evidence["candidate_results"], evidence.get("asked")
    rules = dict(evidence["rules"])
    if rules.get("kind") == "llm" and tasks is None and asked is None:
        tasks = {item["id"]: item["suite"] for item in results}
    return {
        "rules": rules,
        "tasks": None if tasks is None else dict(tasks),
        "rows": len(results) if asked is None else asked["of"],
        "units": len({item["unit"] for item in results}) if asked is None else None,
    }


def task_digests(exam: Exam) -> dict[str, str] | None:
    """A short digest of every golden task with its expectations; None for an exam of rows."""
    if exam.rules.kind != "llm":
        return None
    return {task.id: digest_json(task.model_dump(mode="json"))[7:23] for task in exam.tasks}


def loosened(before: Summary, after: Summary) -> list[str]:
    """What `after` asks less of than `before`, one sentence each; empty when of nothing."""
    old, new = before["rules"], after["rules"]
    return [
        *_bounds(old, new),
        *_comparisons(old, new),
        *_safety(old, new),
        *_gone("slice", old.get("slices", ()), new.get("slices", ())),
        *_others(old, new),
        *_tasks(before, after),
    ]


def _bounds(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    floors = new.get("floors", ())
    for floor in old.get("floors", ()):
        same = [item for item in floors if _about(item) == _about(floor)]
        for bound, word in (("min", "at least"), ("max", "at most")):
            value = floor.get(bound)
            if value is None:
                continue
            found = [item[bound] for item in same if item.get(bound) is not None]
            if not found:
                yield f"the floor {_named(floor)} {word} {value:g} is gone"
            elif bound == "min" and max(found) < value:
                yield f"the floor {_named(floor)} went from {value:g} down to {max(found):g}"
            elif bound == "max" and min(found) > value:
                yield f"the ceiling {_named(floor)} went from {value:g} up to {min(found):g}"


def _comparisons(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    primary = new["primary"]
    if _about(primary) != _about(old["primary"]):
        yield f"the primary metric was {_named(old['primary'])} and is {_named(primary)}"
    else:
        yield from _allows(f"the primary metric {_named(primary)}", old["primary"], [primary])
    for rule in old.get("guardrails", ()):
        same = [item for item in new.get("guardrails", ()) if _about(item) == _about(rule)]
        if not same:
            yield f"the guardrail {_named(rule)} is gone"
        else:
            yield from _allows(f"the guardrail {_named(rule)}", rule, same)


def _allows(what: str, before: Mapping[str, Any], after: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the strictest of `after` allows that `before` does not."""
    for key in ("margin", "ratio"):
        was = before.get(key)
        if was is None:
            continue
        found = [item[key] for item in after if item.get(key) is not None]
        lower_is_stricter = key == "margin" or not before["higher_is_better"]
        if not found:
            return [f"{what} no longer has the {key} {was:g}"]
        now = min(found) if lower_is_stricter else max(found)
        if (now > was) if lower_is_stricter else (now < was):
            return [f"the {key} of {what.removeprefix('the ')} went from {was:g} to {now:g}"]
    if before.get("must") == "not_worse" and all(item.get("must") != "not_worse" for item in after):
        return [f"{what} need no longer be proven not worse"]
    return []


def _safety(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    rates = dict(map(_safe, new.get("safety", ())))
    for name, rate in map(_safe, old.get("safety", ())):
        if name not in rates:
            yield f"the safety suite {name} is gone"
            continue
        now = rates[name]
        if rate is not None and (now is None or now > rate):
            yield f"the safety suite {name} need no longer show a failure rate below {rate:g}"


def _safe(rule: Any) -> tuple[str, float | None]:
    if isinstance(rule, str):
        return rule, None
    return str(rule["suite"]), rule.get("max_failure_rate")


def _gone(what: str, old: Iterable[Any], new: Iterable[Any]) -> list[str]:
    present = list(new)
    return [f"the {what} {item} is gone" for item in old if item not in present]


_COMPARED = {"version", "floors", "primary", "guardrails", "safety", "slices", "data", "tasks"}


def _others(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[str]:
    """Keys that cannot be ordered, or by one number only: any change counts, an addition not."""
    for key in sorted(set(old) - _COMPARED):
        was, now = old[key], new.get(key)
        if was == now or was in (None, [], {}):
            continue
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _settings(key, was, now)
        elif isinstance(was, list) and isinstance(now, list):
            yield from _gone(key, was, now)
        else:
            yield f"{key} was {was!r} and is {now!r}"


def _settings(key: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for name in sorted(was):
        if was[name] is None or now.get(name) == was[name]:
            continue
        rising = isinstance(was[name], int | float) and isinstance(now.get(name), int | float)
        if key == "bootstrap" and rising and now[name] > was[name]:
            continue  # more resamples, more units, more confidence: stricter
        yield f"{key}.{name} was {was[name]!r} and is {now.get(name)!r}"


def _tasks(before: Summary, after: Summary) -> Iterable[str]:
    old, new = before["tasks"], after["tasks"]
    if old is not None and new is not None:
        removed = sorted(set(old) - set(new))
        changed = sorted(name for name in old if name in new and old[name] != new[name])
        if removed:
            yield f"{_count(removed, 'task')} removed: {_few(removed)}"
        if changed:
            yield f"{_count(changed, 'task')} changed: {_few(changed)}"
        return
    for what in ("rows", "units"):
        if before[what] and after[what] and after[what] < before[what] * _FEWER:
            yield f"{what} went from {before[what]} down to {after[what]}"


def _about(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    return rule["metric"], tuple(rule.get("suite") or ()), rule.get("higher_is_better")


def _named(rule: Mapping[str, Any]) -> str:
    suites = ", ".join(rule.get("suite") or ())
    return f"{rule['metric']} of {suites}" if suites else str(rule["metric"])


def _count(names: list[str], word: str) -> str:
    return f"{len(names)} {word}{'' if len(names) == 1 else 's'}"


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
