"""Made-up views of the page, in the shape that `proa_monitor.views` gives them: states that a test
would otherwise need months of events for (quality over a year, fifty models, groups, topics)."""

from __future__ import annotations

import math
import random
import zlib
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

NOW = "2013-04-30T06:12:00.000Z"
DIGEST = "@sha256:" + "7c1e" * 16
LONG = "estimated-time-of-arrival-for-transatlantic-freight-with-two-stops-and-customs"
EVIL = '<img src=x onerror="window.planted=1"><script>window.planted=1</script>'
Json = dict[str, Any]


def days(count: int, end: date = date(2013, 4, 29)) -> list[str]:
    """Names of the `count` days up to `end`."""
    return [(end - timedelta(days=count - 1 - k)).isoformat() for k in range(count)]


def health(state: str, reason: str) -> Json:
    return {"state": state, "reason": reason}


def series(windows: list[str], name: str, *, seed: int, drift_from: int | None = None) -> Json:
    """Columns per window; `drift_from` is the place where the drift begins."""
    pick = random.Random(seed)
    n = len(windows)
    calls = [int(190 + 40 * math.sin(k / 1.1) + pick.gauss(0, 12)) for k in range(n)]
    drift: list[float | None] = [
        abs(pick.gauss(0.45, 0.15)) + (1.3 if drift_from is not None and k >= drift_from else 0.0)
        for k in range(n)
    ]
    if n > 6:
        drift[3] = None
        calls[3] = 31
    return {
        "windows": windows,
        "calls": calls,
        "errors": [pick.randrange(3) for _ in windows],
        "refused": [pick.randrange(9) for _ in windows],
        "tokens_out": [count * 40 for count in calls],
        "p50_seconds": [0.006 + pick.random() * 0.002 for _ in windows],
        "p99_seconds": [0.02 + pick.random() * 0.01 for _ in windows],
        "drift": drift,
        "state": [
            "not enough data" if d is None else "drift" if d > 1 else "no drift" for d in drift
        ],
        "release": [f"{name}/{7 if k < n - 9 else 8}" for k in range(n)],
        "quality": [0.73 - 0.04 * (k > n // 2) + pick.gauss(0, 0.008) for k in range(n)],
    }


def mark(window: str, short: str, what: str = "first seen", **more: Any) -> Json:
    common = {"window": window, "time": f"{window}T05:00:00Z", "short": short, "what": what}
    return {**common, "who": None, "reason": None, **more}


def fleet_row(name: str, kind: str = "classic", *, seed: int = 1, **more: Any) -> Json:
    """A row of the fleet."""
    columns = series(days(30), name, seed=seed, drift_from=26 if seed % 5 == 1 else None)
    drift = columns["drift"][-1]
    state = "drift" if drift > 1 else "no drift"
    row = {
        "name": name,
        "kind": kind,
        "health": health("quiet", "nothing lasting was found")
        if state == "no drift"
        else health("warning", "wind_speed changed 1.75 times as much as is ordinary"),
        "releases": {
            "champion": {
                "release": f"{name}/8{DIGEST}",
                "short": f"{name}/8",
                "since": "2013-04-21T05:00:00Z",
            },
            "challenger": None,
        },
        "traffic": {
            "window": "2013-04-29",
            "calls": columns["calls"][-1] * (1 + seed**2),
            "errors": columns["errors"][-1],
            "refused": 0,
            "tokens_in": 0,
            "tokens_out": 0,
            "p50_seconds": 0.0066,
            "p99_seconds": 0.024,
            "last": "2013-04-29T23:58:00.000Z",
        },
        "drift": {
            "window": "2013-04-29",
            "state": state,
            "figure": drift,
            "subject": "wind_speed" if kind == "classic" else "retrieval_score",
            "note": "wind_speed changed as much as is ordinary",
        },
        "quality": {
            "metric": "auc" if kind == "classic" else "groundedness",
            "unit": "" if kind == "classic" else "share",
            "value": columns["quality"][-1],
            "low": columns["quality"][-1] - 0.03,
            "high": columns["quality"][-1] + 0.028,
            "source": "estimated" if seed % 3 == 0 else "measured",
            "window": "2013-04-27",
            "n": 1830,
        }
        if seed % 4 != 3
        else None,
        "cost": {
            "micro": 1830 * 20 * (1 + seed**3),
            "calls": 1830 * (1 + seed),
            "tokens_in": 0,
            "tokens_out": 0,
        },
        "findings": {"critical": 0, "warning": int(state == "drift"), "info": 0},
        "series": columns | {"marks": [mark(columns["windows"][-9], f"{name}/8")]},
    }
    return {**row, **more}


def fleet(rows: list[Json], notes: list[str] | None = None) -> Json:
    return {
        "schema_version": 1,
        "time": NOW,
        "window": "day",
        "currency": "USD",
        "cost_since": "2013-03-30T00:00:00Z",
        "notes": notes or [],
        "models": rows,
    }


def fifty() -> Json:
    """A fleet of fifty, of both kinds, in every state."""
    kinds = ("classic", "llm")
    rows = [
        fleet_row(f"{word}-{place}", kinds[k % 2], seed=k)
        for k, (word, place) in enumerate(
            (word, place)
            for word in ("delay", "churn", "price", "help", "route", "fraud", "triage", "search",
                         "stock", "demand")
            for place in ("london", "oslo", "lima", "quito", "tokyo")
        )
    ]  # fmt: skip
    rows[7] |= {
        "health": health("critical", "half of all values of amount are null since 2013-04-28"),
        "findings": {"critical": 1, "warning": 0, "info": 2},
    }
    rows[8] |= {
        "health": health("unknown", "31 rows: at least 100 are needed to say anything"),
        "drift": rows[8]["drift"]
        | {"figure": None, "state": "not enough data", "note": "31 rows: at least 100 are needed"},
        "quality": None,
    }
    rows[9] |= {
        "health": health("unwatched", "the release has no reference profile"),
        "drift": rows[9]["drift"] | {"figure": None, "state": "not watched"},
        "cost": None,
    }
    order = ("critical", "warning", "info", "unknown", "quiet", "unwatched")
    rows.sort(key=lambda row: (order.index(row["health"]["state"]), row["name"]))
    return fleet(rows)


def finding(kind: str, subject: str, message: str, **more: Any) -> Json:
    common: Json = {
        "id": f"{zlib.crc32(f'{kind} {subject}'.encode()):016x}",
        "model": "flight-delay",
        "kind": "classic",
        "release": f"flight-delay/7{DIGEST}",
        "track": "champion",
        "type": kind,
        "subject": subject,
        "window": "2013-04-29",
        "since": "2013-04-16T00:00:00Z",
        "seen": "2013-04-30T00:00:00Z",
        "until": None,
        "windows": 14,
        "severity": "warning",
        "effect": 0.164,
        "limit": 0.072,
        "unit": "psi",
        "message": message,
        "evidence": {},
        "group": "drift",
    }
    return common | more


def number_feature(name: str, ratio: float | None, *, seed: int = 1) -> Json:
    pick = random.Random(seed)
    edges = [0, 3.45, 4.6, 5.75, 6.9, 8.06, 9.21, 10.4, 12.7, 16.1, 42.6]
    bins = [f"{low:.6g}…{high:.6g}" for low, high in pairwise(edges)]
    return {
        "name": name,
        "source": "inputs",
        "type": "number",
        "state": "not enough data" if ratio is None else "drift" if ratio > 1 else "no drift",
        "effect": None if ratio is None else ratio * 0.072,
        "limit": None if ratio is None else 0.072,
        "unit": "psi",
        "ratio": ratio,
        "rows": 204,
        "message": None,
        "bins": ["below", *bins, "above", "null", "non_finite", "invalid"],
        "odd": ["below", "above", "null", "non_finite", "invalid"],
        "reference": [0, *(4100 + pick.randrange(200) for _ in bins), 0, 610, 0, 0],
        "counts": [0, *(9 + 3 * k + pick.randrange(4) for k in range(10)), 6, 14, 0, 0],
    }


def category_feature(name: str, ratio: float, categories: list[str]) -> Json:
    pick = random.Random(3)
    size = len(categories)
    return {
        "name": name,
        "source": "inputs",
        "type": "category",
        "state": "drift" if ratio > 1 else "no drift",
        "effect": ratio * 0.05,
        "limit": 0.05,
        "unit": "psi",
        "ratio": ratio,
        "rows": 204,
        "message": None,
        "bins": [*categories, "other", "new", "null", "invalid"],
        "odd": ["new", "null", "invalid"],
        "reference": [*(9000 // (k + 1) for k in range(size)), 40, 0, 0, 0],
        "counts": [*(70 // (k + 1) + pick.randrange(9) for k in range(size)), 2, 11, 0, 0],
    }


CARRIERS = ["UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX"]


def features() -> list[Json]:
    return [
        number_feature("wind_speed", 2.28),
        category_feature("carrier", 1.31, CARRIERS),
        number_feature("outputs.probability", 1.12, seed=2),
        *(
            number_feature(name, ratio, seed=k)
            for k, (name, ratio) in enumerate(
                {"origin_delay_2h": 0.84, "visibility": 0.71, "precipitation": 0.55,
                 "temperature": 0.52, "distance": 0.31, "hour": 0.22, "weekday": 0.14}.items()
            )
        ),
        number_feature("plane_age", None),
    ]  # fmt: skip


def point(window: str, value: float, **more: Any) -> Json:
    common = {"window": window, "value": value, "low": value - 0.035, "high": value + 0.033}
    return common | {"source": "measured", "n": 1420, "release": "flight-delay/7", **more}


def classic(name: str = "flight-delay", **more: Any) -> Json:
    """A classic model with a story: wind in April, a release that did not mend it yet."""
    windows = days(60)
    found, answered = findings(), releases(name, windows)
    promoted = {"who": "proa-controller", "reason": "won its exam by 0.011"}
    view = {
        "schema_version": 1,
        "name": name,
        "kind": "classic",
        "time": NOW,
        "window": "day",
        "currency": "USD",
        "cost_since": "2013-03-30T00:00:00Z",
        "notes": [],
        "health": health("critical", found[0]["message"] + ", and 2 more"),
        "releases": answered,
        "now": present(name, windows[-1]),
        "series": series(windows, name, seed=5, drift_from=46),
        "marks": [
            mark(windows[0], f"{name}/7"),
            mark(windows[-9], f"{name}/8", "promoted", **promoted),
        ],
        "findings": found,
        "detail": detail(answered[0]["release"], windows[-1]),
        "quality": quality(windows),
        "slices": slices(),
        "fairness": None,
        "language": None,
        "judging": None,
        "reasons": reasons(),
        "story": story(name, windows),
    }
    return view | more


def present(name: str, window: str) -> Json:
    """The newest window in figures."""
    row = fleet_row(name, seed=5)
    drift = {"window": window, "state": "drift", "figure": 1.85, "subject": "wind_speed"}
    return {
        "traffic": row["traffic"],
        "cost": row["cost"],
        "drift": drift | {"note": ""},
        "quality": fleet_row(name, seed=1)["quality"],
    }


def findings() -> list[Json]:
    return [
        finding(
            "calibration",
            "",
            "said 24.1 % late, 31.7 % were: calibration is off by 7.6 points in the last 14 days",
            severity="critical",
            effect=0.076,
            limit=0.03,
            unit="share",
            group="quality",
        ),
        finding(
            "feature_drift",
            "wind_speed",
            "wind_speed changed 2.28 times as much as is ordinary between days of the reference",
        ),
        finding(
            "new_category",
            "carrier",
            "5.4 % of carrier are categories that the reference never had",
            severity="info",
            effect=0.054,
            limit=0.01,
            unit="share",
            group="data",
            windows=1,
        ),
        finding(
            "null_burst",
            "temperature",
            "temperature was null in 48 % of the rows",
            until="2013-03-20T00:00:00Z",
            since="2013-03-18T00:00:00Z",
            seen="2013-03-19T00:00:00Z",
            windows=2,
            effect=0.48,
            limit=0.02,
            unit="share",
        ),
    ]


def releases(name: str, windows: list[str]) -> list[Json]:
    return [
        {
            "release": f"{name}/{number}{DIGEST}",
            "short": f"{name}/{number}",
            "digest": DIGEST[1:],
            "track": "champion",
            "first": f"{first}T05:00:00Z",
            "last": f"{last}T23:40:00Z",
            "calls": calls,
            "errors": 21,
            "watched": True,
            "note": None,
            "current": number == 8,
        }
        for number, first, last, calls in (
            (8, windows[-9], windows[-1], 1813),
            (7, windows[0], windows[-9], 9950),
        )
    ]


def detail(release: str, window: str) -> Json:
    return {
        "release": release,
        "track": "champion",
        "window": window,
        "over": True,
        "rows": 204,
        "calls": 201,
        "state": "drift",
        "figure": 2.28,
        "subject": "wind_speed",
        "note": "wind_speed changed 2.28 times as much as is ordinary among the reference's "
        "90 blocks",
        "features": features(),
    }


def quality(windows: list[str]) -> Json:
    pick = random.Random(9)
    points = [
        point(w, 0.742 - 0.05 * (k > 40) + pick.gauss(0, 0.007))
        for k, w in enumerate(windows)
        if k % 2 == 0
    ]
    for one in points[-4:]:
        one["source"] = "estimated"
    return {
        "metrics": [
            {"metric": "auc", "unit": "ratio", "better": "higher", "points": points},
            {
                "metric": "calibration_gap",
                "unit": "ratio",
                "better": "lower",
                "points": [
                    point(w, 0.012 + 0.06 * (k > 40) + pick.gauss(0, 0.006))
                    for k, w in enumerate(windows[:-4])
                    if k % 2 == 0
                ],
            },
            {
                "metric": "brier",
                "unit": "ratio",
                "better": "lower",
                "points": [point(windows[-5], 0.172)],
            },
        ],
        "coverage": 0.91,
        "delay_seconds": {"p50": 93_600, "p90": 172_800},
        "note": None,
    }


def slices() -> list[Json]:
    return [
        {
            "slice": f"{column}={value}",
            "metric": "auc",
            "value": 0.60 + 0.014 * k,
            "low": 0.55 + 0.014 * k,
            "high": 0.65 + 0.014 * k,
            "n": 240 - 11 * k,
            "overall": 0.694,
        }
        for k, (column, value) in enumerate(
            [("carrier", c) for c in CARRIERS[::-1]] + [("origin", "EWR"), ("origin", "JFK")]
        )
    ]


def reasons() -> list[Json]:
    return [
        {"feature": name, "then": then, "now": now}
        for name, then, now in (
            ("origin_delay_2h", 0.41, 0.33),
            ("hour", 0.22, 0.21),
            ("wind_speed", 0.14, 0.25),
            ("distance", 0.11, 0.1),
            ("carrier", 0.07, 0.06),
        )
    ]


def story(name: str, windows: list[str]) -> list[Json]:
    def item(time: str, what: str, title: str, text: str, **more: Any) -> Json:
        common = {"time": time, "what": what, "severity": "info", "title": title, "text": text}
        return {**common, "who": None, "link": None, **more}

    link = {"window": windows[-1], "feature": "wind_speed"}
    return [
        item(
            f"{windows[-9]}T05:00:00Z",
            "decision",
            f"{name}/8 promoted",
            "won its exam by 0.011 ± 0.006 on 14 fresh days",
            who="proa-controller",
        ),
        item(f"{windows[-9]}T04:00:00Z", "release", f"{name}/8 first met as champion", ""),
        item(
            f"{windows[-12]}T01:00:00Z",
            "decision",
            "retraining asked",
            "calibration is off by 7.6 points since 14 days; data sound, no season",
            who="proa-controller",
        ),
        item(
            f"{windows[-13]}T00:00:00Z",
            "finding",
            "calibration",
            "said 24.1 % late, 31.7 % were",
            severity="critical",
            link={"window": windows[-1], "feature": None},
        ),
        item(
            f"{windows[-14]}T00:00:00Z",
            "finding",
            "feature drift: wind_speed",
            "wind_speed changed 2.28 times as much as is ordinary",
            severity="warning",
            link=link,
        ),
        item("2013-03-20T00:00:00Z", "closed", "null burst: temperature: gone", "after 2 windows"),
        item(
            "2013-03-18T00:00:00Z",
            "finding",
            "null burst: temperature",
            "temperature was null in 48 % of the rows",
            severity="warning",
            link=link,
        ),
        item(f"{windows[0]}T05:00:00Z", "release", f"{name}/7 first met as champion", ""),
    ]


def language_model(name: str = "python-help") -> Json:
    """A language model: topics, signals, a judge."""
    view = classic(name)
    view["kind"] = "llm"
    view["now"]["traffic"] |= {"tokens_in": 61_000, "tokens_out": 8120, "refused": 4}
    view["language"] = {
        "topics": [
            {"name": "asyncio · await · task", "then": 0.08, "now": 0.17, "rows": 35,
             "holds": True},
            {"name": "string · format · f-string", "then": 0.22, "now": 0.19, "rows": 39,
             "holds": False},
            {"name": "list · sort · key", "then": 0.31, "now": 0.27, "rows": 55, "holds": False},
            {"name": "file · open · read", "then": 0.2, "now": 0.19, "rows": 38, "holds": False},
            {"name": "class · inherit · super", "then": 0.19, "now": 0.18, "rows": 37,
             "holds": False},
        ],
        "signals": [
            {"name": "refused", "value": 0.021, "reference": 0.018, "unit": "share"},
            {"name": "cache_hits", "value": 0.31, "reference": 0.28, "unit": "share"},
            {"name": "retrieval_score", "value": 0.64, "reference": 0.71, "unit": ""},
            {"name": "index_age", "value": 1_209_600, "reference": 86_400, "unit": "seconds"},
            {"name": "groundedness", "value": None, "reference": None, "unit": "share"},
        ],
    }  # fmt: skip
    view["judging"] = {
        "share": 0.05,
        "judged": 412,
        "good": 0.93,
        "agreement": 0.87,
        "kappa": 0.71,
        "n": 60,
    }
    view["slices"] = []
    view["reasons"] = []
    view["quality"]["metrics"][0] |= {"metric": "groundedness", "unit": "share"}
    return view


def with_groups() -> Json:
    """What a key with the right `protected` sees."""
    view = classic("credit-line")
    groups = [
        {"group": "women", "value": 0.61, "low": 0.57, "high": 0.65, "n": 812},
        {"group": "men", "value": 0.70, "low": 0.67, "high": 0.73, "n": 931},
        {"group": "not said", "value": None, "low": None, "high": None, "n": 12},
    ]
    gap = {"attribute": "sex", "metric": "equal_opportunity", "gap": 0.09, "low": 0.04,
           "high": 0.14, "tolerance": 0.03, "groups": groups}  # fmt: skip
    view["fairness"] = [gap]
    return view
