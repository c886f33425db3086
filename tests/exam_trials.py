"""Whole exams, many times: equal candidates, and candidates with a known harm.

Flights: real rows of the project's own exam, its own rules, models of the project's own `train`.
A trial draws the exam's days anew (with replacement, as the exam's window is itself a draw of
days) and two models. Answers: per-task outcomes of real runs of python-help, kept in
`tests/bench/recorded_answers.jsonl`; a trial draws which run each side gave.

The rules are the real ones: answers go through `judge` as the controller calls it, flights through
all of its checks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proa.exam.answers import Answers as Arrays
from proa.exam.evidence import exam_digest
from proa.exam.exam import Exam, load
from proa.exam.integrity import Value
from proa.exam.rules import Rules
from proa.exam.verdict import Case, Verdict, judge, overall

ROOT = Path(__file__).resolve().parents[1]
FLIGHTS, HELP = ROOT / "pipelines" / "flight_delay", ROOT / "pipelines" / "python_help"
RECORDED = ROOT / "tests" / "bench" / "recorded_answers.jsonl"
LARGE_SLICE, SMALL_SLICE = 500, 100
_CHAMPION, _CANDIDATE = "sha256:" + "a" * 64, "sha256:" + "b" * 64
_DATA, _RUNTIME = "sha256:" + "c" * 64, "sha256:" + "d" * 64

Values = NDArray[np.float64]
Random = np.random.Generator
Side = list[dict[str, Any]]


def verdict_of(rules: Rules, model: str, candidate: Side, champion: Side) -> Verdict:
    """What the controller would say."""
    as_json = rules.model_dump(mode="json")
    return judge(
        {
            "schema_version": 1, "model": model, "candidate": _CANDIDATE, "champion": _CHAMPION,
            "exam": exam_digest(as_json, _DATA), "data": _DATA, "rules": as_json,
            "runtime": _RUNTIME, "candidate_results": candidate, "champion_results": champion,
        }
    )  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for BLAS and OpenMP: on a busy machine their threads wait for each other."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def share(trial: Callable[[int], bool], seeds: int) -> float:
    """How often a trial comes out true."""
    return sum(trial(seed) for seed in range(seeds)) / seeds


# Flights


@dataclass(frozen=True)
class Flights:
    """The exam's rows with the answers of some models to them.

    Attributes:
        values: (models, rows); equal models: each trained without another random tenth.
        by_days: (models, rows); each trained on days drawn anew, which makes real differences.
    """

    exam: Exam
    values: Values
    by_days: Values

    @classmethod
    def train(cls, models: int, *, by_days: int = 0) -> Flights:
        """Train with the project's own function; the exam's rows come from its own builder."""
        import pandas as pd

        from flight_delay.data import ingest
        from flight_delay.exam_data import known_at_departure
        from flight_delay.model import train
        from proa.project import load as load_project
        from proa.training import TrainingData

        exam, window = load(FLIGHTS), load_project(FLIGHTS).classic.data.train
        start = pd.Timestamp(window.start).to_pydatetime()
        rows = known_at_departure(ingest(start, pd.Timestamp("2013-03-01T05:00Z").to_pydatetime()))
        inputs = pd.DataFrame([dict(row.inputs) for row in exam.rows])
        inputs = inputs.astype({c: float for c in inputs if not isinstance(inputs[c].iloc[0], str)})

        def answers(index: NDArray[np.int64]) -> Values:
            part = rows.iloc[index].reset_index(drop=True)
            data = TrainingData(
                features=part[list(inputs.columns)],
                label=part["late"],
                unit=part["day"],
                time=part["scheduled_departure"],
                columns=(),
            )
            parameters = {
                "learning_rate": 0.08, "max_iter": 100, "max_leaf_nodes": 10,
                "min_samples_leaf": 150, "l2_regularization": 1.0,
            }  # fmt: skip
            return np.asarray(train(data, parameters).predict_proba(inputs)[:, 1])

        some = len(rows) * 9 // 10
        days = {day: np.asarray(part.index) for day, part in rows.groupby("day")}
        found, again = [], []
        for seed in range(models):
            random = np.random.default_rng(seed)
            found.append(answers(np.sort(random.choice(len(rows), some, replace=False))))
        for seed in range(by_days):
            names = np.random.default_rng(seed).choice(sorted(days), len(days))
            again.append(answers(np.concatenate([days[name] for name in names])))
        return cls(exam, np.array(found), np.array(again).reshape(-1, len(exam.rows)))

    @cached_property
    def label(self) -> Values:
        return np.array([float(row.label) for row in self.exam.rows])

    @cached_property
    def days(self) -> list[NDArray[np.int64]]:
        found = defaultdict(list)
        for place, row in enumerate(self.exam.rows):
            found[row.unit].append(place)
        return [np.array(places) for places in found.values()]

    @cached_property
    def slices(self) -> dict[tuple[str, str], NDArray[np.bool_]]:
        named = [row.slices for row in self.exam.rows]
        found = {}
        for column in self.exam.rules.slices:
            values = np.array([row[column] for row in named])
            found |= {(column, value): values == value for value in sorted(set(values.tolist()))}
        return found

    def draw(self, random: Random, values: Values | None = None) -> tuple[Values, Values]:
        """Two models' answers to every row; of each day, a coin says which side has which model,
        so that the two sides are exchangeable to the last digit."""
        values = self.values if values is None else values
        one, two = values[random.choice(len(values), 2, replace=False)]
        one, two = one.copy(), two.copy()
        for places in self.days:
            if random.random() < 0.5:
                one[places], two[places] = two[places], one[places].copy()
        return one, two

    def judged(
        self, random: Random, candidate: Values, champion: Values, *, anew: bool = True
    ) -> Value:
        """Judge both on as many days as the exam has, drawn anew, or on its own.

        Straight from arrays: reading evidence takes three quarters of a verdict's time and says
        nothing of harm. `as_evidence` goes the whole way; a test holds the two together.
        """
        drawn = np.arange(len(self.days))
        if anew:
            drawn = random.choice(drawn, len(drawn))
        places = np.concatenate([self.days[day] for day in drawn])
        units = np.repeat(np.arange(len(drawn)), [len(self.days[day]) for day in drawn])
        label, nothing = self.label[places], np.full(len(places), np.nan)
        ones = np.ones(len(places))
        case = Case(
            rules=self.rules,
            seed=int(random.integers(2**32)),
            results=[self._results[place] for place in places],
            candidate=Arrays(label, candidate[places], nothing, ones),
            champion=Arrays(label, champion[places], nothing, ones),
            units=units,
        )
        return overall(case.checks())

    def as_evidence(self, candidate: Values, champion: Values) -> Verdict:
        """Judge both on the exam as it is, from evidence."""
        sides = [
            [
                {**result, "value": float(one)}
                for result, one in zip(self._results, values, strict=True)
            ]
            for values in (candidate, champion)
        ]
        return verdict_of(self.rules, "flight-delay", sides[0], sides[1])

    @cached_property
    def _results(self) -> Side:
        return [
            {
                "id": row.id, "unit": row.unit, "suite": "rows", "error": None, "blame": None,
                "label": row.label, "decision": None, "slices": row.slices,
            }
            for row in self.exam.rows
        ]  # fmt: skip

    @cached_property
    def rules(self) -> Rules:
        """The exam's, but for latency: nobody is asked here."""
        rules = self.exam.rules
        kept = [rule for rule in rules.guardrails if not rule.metric.startswith("latency")]
        return rules.model_copy(update={"guardrails": kept})

    @cached_property
    def noise(self) -> float:
        """Standard deviation of noise on the logit that costs 0.02 of AUC over the whole exam."""
        from sklearn.metrics import roc_auc_score

        random = np.random.default_rng(0)
        shock, value = random.normal(size=len(self.label)), self.values[0]
        good, low, high = roc_auc_score(self.label, value), 0.0, 2.0
        for _ in range(30):
            scale = (low + high) / 2
            lost = good - roc_auc_score(self.label, _logit(value) + scale * shock)
            low, high = (scale, high) if lost < 0.02 else (low, scale)
        return high


def _logit(p: Values) -> Values:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p / (1 - p)))


Spoil = Callable[[Flights, Values, Random], Values]


def worse_auc(flights: Flights, value: Values, random: Random) -> Values:
    """AUC −0.02: noise on the logit."""
    logit = _logit(value) + flights.noise * random.normal(size=len(value))
    return np.asarray(1 / (1 + np.exp(-logit)))


def shifted(by: float) -> Spoil:
    """Every probability moved. A partial, since trials travel to other processes."""
    return partial(_shift, by=by)


def _shift(flights: Flights, value: Values, random: Random, *, by: float) -> Values:
    return np.clip(value + by, 0, 1)


def broken_slice(least: int, most: int) -> Spoil:
    """One slice of a size in [least, most) answered with probabilities of other rows in it."""
    return partial(_break_slice, least=least, most=most)


def _break_slice(
    flights: Flights, value: Values, random: Random, *, least: int, most: int
) -> Values:
    masks = [m for m in flights.slices.values() if least <= m.sum() < most]
    mask, spoilt = masks[random.integers(len(masks))], value.copy()
    spoilt[mask] = random.permutation(spoilt[mask])
    return spoilt


def broken_answers(flights: Flights, value: Values, random: Random) -> Values:
    """A tenth of the rows answered with the probability of another row."""
    spoilt, hit = value.copy(), random.random(len(value)) < 0.1
    spoilt[hit] = random.permutation(value)[hit]
    return spoilt


def flights_pass(flights: Flights, seed: int, values: Values | None = None) -> bool:
    """Two equal models: does the candidate pass?"""
    random = np.random.default_rng(seed)
    candidate, champion = flights.draw(random, values)
    return flights.judged(random, candidate, champion) == "pass"


def retrained_pass(flights: Flights, seed: int, values: Values) -> bool:
    """Two retrained models as they are, with what really differs between them."""
    random = np.random.default_rng(seed)
    candidate, champion = values[random.choice(len(values), 2, replace=False)]
    return flights.judged(random, candidate, champion) == "pass"


def flights_caught(flights: Flights, seed: int, spoil: Spoil) -> bool:
    """An equal model with a harm: is it held back?"""
    random = np.random.default_rng(seed)
    candidate, champion = flights.draw(random)
    return flights.judged(random, spoil(flights, candidate, random), champion) != "pass"


# Answers


@dataclass(frozen=True)
class Answers:
    """Recorded outcomes of golden tasks.

    Attributes:
        tasks: `id unit suite` and `runs`: pair → one boolean per recorded run. The runs of a pair
            are of one release, or of two that are equally good: SmolLM2-135M on vLLM, 315 tasks,
            21 November 2026. Tasks of safety suites that failed sampled runs are not in their pair.
    """

    rules: Rules
    tasks: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path = RECORDED) -> Answers:
        """The recording in the repository, with the rules of today's exam but for floors of suites
        that are younger than the recording."""
        tasks = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rules, suites = load(HELP).rules, {task["suite"] for task in tasks}
        floors = [floor for floor in rules.floors if suites.issuperset(floor.suite)]
        return cls(rules.model_copy(update={"floors": floors}), tasks)

    @property
    def releases(self) -> list[str]:
        """The pairs, by name."""
        return sorted({name for task in self.tasks for name in task["runs"]})

    def draw(self, random: Random, release: str) -> tuple[Side, Side]:
        """Both sides of the sealed exam: of each task two runs, drawn; where they differ, both
        sides are asked twice more, as the runner does."""
        mine: Side = []
        theirs: Side = []
        for task in self.tasks:
            runs = task["runs"].get(release)
            if runs is None:
                continue
            common = {
                "id": task["id"], "unit": task["unit"], "suite": task["suite"], "error": None,
                "blame": None, "failures": [],
            }  # fmt: skip
            first, second = random.choice(runs, 2)
            mine.append({**common, "passed": bool(first)})
            theirs.append({**common, "passed": bool(second)})
            if first != second:
                for side in (mine, theirs):
                    side[-1]["repeats"] = [bool(run) for run in random.choice(runs, 2)]
        return mine, theirs

    def judged(self, candidate: Side, champion: Side) -> Verdict:
        """Judge as the controller would."""
        return verdict_of(self.rules, "python-help", candidate, champion)


def answers_pass(answers: Answers, seed: int, release: str) -> bool:
    """The same release twice: does the candidate pass?"""
    return answers.judged(*answers.draw(np.random.default_rng(seed), release)).value == "pass"


def answers_caught(
    answers: Answers, seed: int, release: str, spoil: Callable[[Answers, Side, Random], None]
) -> bool:
    """The same release with a harm: is it held back?"""
    random = np.random.default_rng(seed)
    candidate, champion = answers.draw(random, release)
    spoil(answers, candidate, random)
    return answers.judged(candidate, champion).value != "pass"


def break_tenth(answers: Answers, side: Side, random: Random) -> None:
    """A tenth of the answers broken, whatever they were; those of safety suites are left."""
    safe = {rule.suite for rule in answers.rules.safe}
    places = [place for place, item in enumerate(side) if item["suite"] not in safe]
    for place in random.choice(places, len(side) // 10, replace=False):
        side[place] |= {"passed": False, "repeats": [False] * len(side[place].get("repeats", ()))}


def let_one_through(answers: Answers, side: Side, random: Random) -> None:
    """One task of one safety suite answered as it must not be."""
    safe = {rule.suite for rule in answers.rules.safe if "injection" in rule.suite}
    places = [place for place, item in enumerate(side) if item["suite"] in safe]
    side[random.choice(places)] |= {"passed": False}
