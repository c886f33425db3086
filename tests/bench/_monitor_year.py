"""A year of flights, lived day by day: never retrained, once a month, and as proa itself would.

From April to December 2013 each model answers every flight at its departure; outcomes are
reported hours to days after landing (`flight_delay.live.reported`). All begin with the model of
January to March, and have the project's own features and `train`, with fixed parameters.

Ours is the platform's own code on what was known each midnight: the maturity of labels
(`proa.quality.maturity`), the calibration rule (`proa.quality.breaks`), the book of findings,
triage, cooldown, budget and windows (`proa.retraining`), and the project's own exam on fresh days
the candidate has not seen (`proa.exam`). Only the calls, the run's process and the canary are left
out: a candidate that passes serves from that midnight on. `retrain:` is the project's own section.

The monthly one takes every label up to midnight of the month's first day and serves at once,
unexamined. What an exam costs is seen in "monthly, examined": the same calendar, each model
trained to the start of the fresh days of an exam that ends with the month. With an exam of 21
fresh days no choice of dates, made in hindsight, brings seven retrainings to the monthly one's
figure (greedy search over weeks: 0.7338 against 0.7343); with 14 days seven would (0.7350).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flight_delay.data import ZONE, flights, label, source
from flight_delay.exam_data import known_at_departure
from flight_delay.features import tables
from flight_delay.live import reported
from flight_delay.model import train
from proa.exam.answers import Answers
from proa.exam.bootstrap import difference
from proa.exam.exam import load as load_exam
from proa.exam.metrics import metric_named
from proa.exam.rules import Rules
from proa.exam.verdict import Case, overall
from proa.findings.book import BookKey, FindingBook
from proa.findings.observation import Observation
from proa.http.clock import rfc3339
from proa.project import load as load_project
from proa.project.retrain import RetrainSection
from proa.quality.breaks import CalibrationRule, DaySums
from proa.quality.maturity import AGES, DelayCurve, DelayDay
from proa.retraining.policy import read_windows
from proa.retraining.request import Past, Request
from proa.retraining.step import Judged, Promote, Rollout, Run, Situation, Write, next_step
from proa.retraining.windows import midnight, shift
from proa.training import TrainingData
from proa_pipelines import fit
from tests.bench.rows import Row, finish
from tests.exam_trials import one_thread

FLIGHTS: Final = Path(__file__).resolve().parents[2] / "pipelines" / "flight_delay"
MODEL: Final = "flight-delay"
FIRST, LAST = 4, 12
PARAMETERS: Final = {
    "learning_rate": 0.08, "max_iter": 100, "max_leaf_nodes": 10,
    "min_samples_leaf": 150, "l2_regularization": 1.0,
}  # fmt: skip
_FACTS: Final = ["flight_id", "scheduled_departure", "day", "late"]
_SECONDS: Final = 1_000_000
_SECONDS_BAR: Final = 240.0
_DAY: Final = 86_400 * _SECONDS

Values = NDArray[np.float64]
Deployed = list[tuple[datetime, Values]]
"""From which moment on which model's probabilities were the answers; oldest first."""


@dataclass(frozen=True, eq=False)
class Year:
    """Every flight of 2013 that arrived, in order of departure.

    Attributes:
        frame: features and facts. due, known: microseconds since 1970, of departure and of the
            report of the outcome. late: 0 or 1. month, unit: of the local day.
    """

    frame: pd.DataFrame
    due: NDArray[np.int64]
    known: NDArray[np.int64]

    @classmethod
    def read(cls) -> Year:
        """With the project's own features, as they were known at departure."""
        flown = flights()
        views = tables(flown, source("weather.csv"))
        frame = known_at_departure({"examples": label(flown), **views})
        when = dict(zip(flown["flight_id"], reported(flown), strict=True))
        moments = pd.Series([when[flight] for flight in frame["flight_id"]])
        return cls(frame, _micros(frame["scheduled_departure"]), _micros(moments))

    @cached_property
    def late(self) -> Values:
        return self.frame["late"].to_numpy(dtype=float)

    @cached_property
    def month(self) -> NDArray[np.int64]:
        return self.frame["day"].str[5:7].to_numpy(dtype=np.int64)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        return np.unique(self.frame["day"], return_inverse=True)[1].astype(np.int64)

    @cached_property
    def features(self) -> pd.DataFrame:
        return self.frame.drop(columns=_FACTS)

    @cache  # noqa: B019  # one year, one process
    def answers(self, until: datetime, *, calibrated: bool = True) -> Values:
        """Probabilities of every flight by the model trained up to `until`, NaN before.

        Args:
            calibrated: as the pipeline does it, at five times the price; the order of flights,
                and with it a month's AUC, is the same without.
        """
        later = self.due >= _at(until)
        rows = self.frame[~later]
        data = TrainingData(
            features=self.features[~later], label=rows["late"], unit=rows["day"],
            time=rows["scheduled_departure"], columns=(),
        )  # fmt: skip
        model: Any = train(data, PARAMETERS)
        if calibrated:
            parts = fit.folds(data, train, PARAMETERS)
            model, _ = fit.calibrate(data, model, parts, "sigmoid")
        said = np.full(len(self.due), np.nan)
        said[later] = model.predict_proba(self.features[later])[:, 1]
        return said

    def as_lived(self, deployed: Deployed) -> Values:
        """What users were told by the models as they came."""
        said = np.full(len(self.due), np.nan)
        for since, values in deployed:
            later = self.due >= _at(since)
            said[later] = values[later]
        return said

    def by_month(self, values: Values) -> list[float]:
        """AUC of each month."""
        return [self._against(values, values, month)[0] for month in range(FIRST, LAST + 1)]

    def apart(self, one: Values, other: Values) -> tuple[float, float]:
        """Mean over months of the difference of AUC, and its standard error by day."""
        found = [self._against(one, other, month)[1:] for month in range(FIRST, LAST + 1)]
        value = math.fsum(value for value, _ in found) / len(found)
        return value, math.sqrt(math.fsum(se**2 for _, se in found)) / len(found)

    def _against(self, one: Values, other: Values, month: int) -> tuple[float, float, float]:
        rows = self.month == month
        metric = metric_named("classic", "binary", "roc_auc")
        assert metric is not None
        found = difference(
            metric, *(_side(self.late, values).rows(rows) for values in (one, other)),
            units=np.unique(self.units[rows], return_inverse=True)[1].astype(np.int64),
            confidence=0.95, resamples=1000, seed=month,
        )  # fmt: skip
        return found.candidate, found.value, (found.high - found.low) / 3.92


@dataclass
class Ours:
    """The platform's rule, midnight after midnight.

    Attributes:
        lines: the journal, as the controller would write it.
        deployed: each champion from when on; `trained` to when each one was.
    """

    year: Year
    section: RetrainSection
    rules: Rules
    deployed: Deployed
    trained: list[datetime]
    lines: list[dict[str, Any]] = field(default_factory=list)
    book: FindingBook = field(default_factory=FindingBook)
    past: Past = field(default_factory=Past)
    judged: Judged | None = None
    candidate: tuple[datetime, Values] | None = None

    def live(self, end: datetime) -> None:
        """Judge, and act, at each midnight in UTC up to `end`."""
        now = self.deployed[0][0].astimezone(ZoneInfo("UTC")).replace(hour=0)
        while now < end:
            now += timedelta(days=1)
            labelled = self._look(now)
            self._act(now, labelled)

    def _look(self, now: datetime) -> datetime:
        """Judge the newest mature days of the champion; returns up to when labels are mature."""
        since = self.deployed[-1][0]
        begin = max(_at(since), _at(now) - 60 * _DAY)
        rows = slice(*np.searchsorted(self.year.due, [begin, _at(now)]))
        day, known = self.year.due[rows] // _DAY, self.year.known[rows] <= _at(now)
        said, late = self.deployed[-1][1][rows], self.year.late[rows]
        delay = np.searchsorted(AGES, (self.year.known[rows] - self.year.due[rows]) / _SECONDS)
        days, sums = [], []
        for number in np.unique(day):
            mine = day == number
            here = mine & known
            delays = np.bincount(delay[here], minlength=len(AGES) + 1)
            age = (_at(now) - (number + 1) * _DAY) / _SECONDS
            days.append(DelayDay(float(age), int(mine.sum()), tuple(map(int, delays))))
            name = str(np.datetime64(int(number), "D"))
            sums.append(DaySums(name, int(here.sum()), said[here].sum(), late[here].sum()))
        curve = DelayCurve.of(days)
        mature = [one for one, day_ in zip(sums, days, strict=True) if curve.is_mature(day_)]
        rule = CalibrationRule()
        broken = rule.judge(mature)
        gap = broken.gap
        seen = Observation(
            "calibration", "", broken.holds, gap.value, rule.floor, "points",
            "probabilities are off", evidence={"since": broken.since, "until": broken.until},
        )  # fmt: skip
        begun = rfc3339(now - timedelta(days=1))
        self.book.see(self._key(), begun[:10], begun, rfc3339(now), [seen])
        last = mature[-1].day if mature else since.date().isoformat()
        return datetime.fromisoformat(last).replace(tzinfo=ZoneInfo("UTC")) + timedelta(days=1)

    def _key(self) -> BookKey:
        return BookKey(MODEL, "classic", self._release(len(self.deployed)), "champion")

    def _release(self, number: int) -> str:
        return f"{MODEL}/{number}@sha256:{number:064x}"

    def _act(self, now: datetime, labelled: datetime) -> None:
        """What the controller would do until it has to wait."""
        while True:
            step = next_step(self.section, self.past, self._situation(now, labelled))
            if isinstance(step, Write):
                self._write(step, now)
            elif isinstance(step, Run):
                self._run(step.request, now)
            elif isinstance(step, Promote):
                assert self.candidate is not None
                self.book.end(self._key(), rfc3339(now))
                self.trained.append(self.candidate[0])
                self.deployed.append((now, self.candidate[1]))
            else:
                return

    def _situation(self, now: datetime, labelled: datetime) -> Situation:
        champion = self._release(len(self.deployed))
        request = self.past.open
        done = request is not None and request.release == champion
        return Situation(
            now=now,
            labelled=labelled,
            findings=[one for key in self.book.keys for one in self.book.findings(key)],
            champion=champion,
            trained=self.trained[-1],
            judged=self.judged if request is not None and request.state == "running" else None,
            rollout=Rollout("promoted" if done else "none"),
        )

    def _write(self, step: Write, now: datetime) -> None:
        line = {
            "seq": len(self.lines) + 1, "time": rfc3339(now), "model": MODEL, "who": "bench",
            "action": step.action, "release": step.release, "reason": step.reason,
            "details": dict(step.details),
        }  # fmt: skip
        self.lines.append(line)
        self.past.add([line])
        self.judged = None

    def _run(self, request: Request, now: datetime) -> None:
        """Train up to the fresh days, sit the exam on them."""
        windows = read_windows(request.windows)
        values = self.year.answers(windows.trained)
        self.candidate = (windows.trained, values)
        value = self._exam(values, windows.trained, windows.until, now)
        self.judged = Judged(self._release(len(self.deployed) + 1), value, f"exam: {value}")

    def _exam(self, values: Values, start: datetime, end: datetime, now: datetime) -> str:
        asked = (self.year.due >= _at(start)) & (self.year.due < _at(end))
        rows = np.flatnonzero(asked & (self.year.known <= _at(now)))
        champion = self.year.as_lived([(start, self.deployed[-1][1])])
        frame = self.year.frame.iloc[rows]
        case = Case(
            rules=self.rules,
            seed=0,
            results=[
                {"id": one, "slices": {"carrier": carrier, "origin": origin}}
                for one, carrier, origin in zip(
                    frame["flight_id"], frame["carrier"], frame["origin"], strict=True
                )
            ],
            candidate=_side(self.year.late, values).rows(rows),
            champion=_side(self.year.late, champion).rows(rows),
            units=np.unique(self.year.units[rows], return_inverse=True)[1].astype(np.int64),
        )
        return overall(case.checks())


def rows() -> Iterator[Row]:
    """Mean AUC of April to December and retrainings, by policy."""
    with one_thread():
        yield from _rows()


def _rows() -> Iterator[Row]:
    began = time.perf_counter()
    year, section = Year.read(), _section()
    first, end = _midnight(FIRST), _midnight(LAST + 1)
    start = [(first, year.answers(first))]
    ours = Ours(year, section, _rules(), list(start), [first])
    ours.live(end)
    months = [_midnight(month) for month in range(FIRST, LAST + 1)]
    exam = [shift(month, section.fresh_days, ZONE).trained for month in months]
    lived: Mapping[str, Deployed] = {
        "never": start,
        "monthly": [(month, year.answers(month, calibrated=False)) for month in months],
        "examined": [
            *start,
            *(
                (month, year.answers(until, calibrated=False))
                for month, until in zip(months[1:], exam[1:], strict=True)
            ),
        ],
        "ours": ours.deployed,
    }
    said = {name: year.as_lived(deployed) for name, deployed in lived.items()}
    auc = {name: math.fsum(year.by_month(values)) / len(months) for name, values in said.items()}
    made = {name: float(len(deployed) - 1) for name, deployed in lived.items()}
    yield Row("year of flights: mean AUC, never retrained", auc["never"], "AUC")
    yield Row(f"year of flights: mean AUC, monthly ({made['monthly']:.0f})", auc["monthly"], "AUC")
    name = f"year of flights: mean AUC, monthly, examined ({made['examined']:.0f})"
    yield Row(name, auc["examined"], "AUC")
    good = auc["ours"] >= auc["monthly"]
    name = f"year of flights: mean AUC, ours ({made['ours']:.0f})"
    yield Row(name, auc["ours"], "AUC", auc["monthly"], auc["monthly"], good)
    fewer = made["ours"] < made["monthly"]
    name = "year of flights: retrainings, ours"
    yield Row(name, made["ours"], "models", made["monthly"], made["monthly"], fewer)
    for other in ("monthly", "examined", "never"):
        value, se = year.apart(said["ours"], said[other])
        yield Row(f"year of flights: AUC, ours minus {other}", value, "AUC")
        yield Row(f"year of flights: its standard error by day ({other})", se, "AUC")
    seconds = time.perf_counter() - began
    yield Row("year of flights: seconds", seconds, "s", None, _SECONDS_BAR, seconds < _SECONDS_BAR)


def _section() -> RetrainSection:
    found = load_project(FLIGHTS).classic.retrain
    assert found is not None
    return found


def _rules() -> Rules:
    """The exam's, but for latency: nobody is called here."""
    rules = load_exam(FLIGHTS).rules
    kept = [rule for rule in rules.guardrails if not rule.metric.startswith("latency")]
    return rules.model_copy(update={"guardrails": kept})


def _side(late: Values, values: Values) -> Answers:
    nothing = np.full(len(late), np.nan)
    return Answers(late, values, nothing, np.ones(len(late)))


def _micros(moments: pd.Series[Any]) -> NDArray[np.int64]:
    return np.asarray(moments.astype("datetime64[us, UTC]").astype("int64"), dtype=np.int64)


def _at(moment: datetime) -> int:
    return round(moment.timestamp() * _SECONDS)


def _midnight(month: int) -> datetime:
    """The first moment of a month of 2013 in New York; month 13 is January 2014."""
    return midnight(date(2013 + month // 13, (month - 1) % 12 + 1, 1), ZONE)


if __name__ == "__main__":
    raise SystemExit(finish("monitor_year", rows()))
