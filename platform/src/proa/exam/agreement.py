"""How far a judge agrees with people: accuracy and Cohen's kappa over answers labelled by hand.

Kappa is the agreement beyond what two raters with the same shares would reach by chance
(Cohen 1960): 0 is chance, 1 is always. Its interval is a percentile bootstrap over the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from proa.errors import InvalidInput
from proa.exam.judge import Preference
from proa.exam.scorers import Judge, Rating, Rubric
from proa.project.check import check_settings

RESAMPLES: Final = 2000
_AT_ONCE: Final = 8


class Labelled(BaseModel):
    """An answer that somebody read: `good` is that person's word, `note` their reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    task: str
    question: str
    answer: str
    good: bool
    note: str = ""
    release: str = ""
    reference: str | None = Field(default=None, min_length=1)


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge beside people's labels.

    Attributes:
        labelled: answers with a label; `scored` of them the judge gave a score.
        accuracy: share of those scored on which both agree.
        kappa: Cohen's, with `low` and `high` of its 95 % interval; 0.0 when one of the two says
            the same of every answer, which is what knowing nothing looks like.
        said_good: share of those scored that the judge calls good; `are_good` that people do.
        pairs: a good and a bad answer to one question; `preferred`: where the judge took the good
            one in both orders; `tied`: where the order decided, or a reply could not be read.
    """

    labelled: int
    scored: int
    accuracy: float
    kappa: float
    low: float
    high: float
    said_good: float
    are_good: float
    pairs: int = 0
    preferred: int = 0
    tied: int = 0

    def decides(self, bound: float) -> bool:
        """Whether the judge may pass or fail tasks: kappa proven at least `bound`.

        A judge that scores fewer than nine in ten answers does not.
        """
        return self.scored >= 0.9 * self.labelled > 0 and self.low >= bound

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        return asdict(self)

    def sentence(self) -> str:
        """For people."""
        text = (
            f"{self.scored} of {self.labelled} labelled answers scored: accuracy "
            f"{self.accuracy:.2f}, Cohen's kappa {self.kappa:.2f} [{self.low:.2f}, "
            f"{self.high:.2f}]; it calls {self.said_good:.0%} good, people {self.are_good:.0%}"
        )
        if self.pairs:
            text += (
                f"; of {self.pairs} pairs it prefers the good answer in {self.preferred}, "
                f"{self.tied} are undecided"
            )
        return text


def load_labelled(path: Path) -> tuple[Labelled, ...]:
    """Read labelled answers, one JSON object a line.

    Raises:
        InvalidInput: names line and key.
    """
    found, seen = [], set[str]()
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path.name}: line {number}"
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"{where} is not JSON: {error}") from error
        item = check_settings(Labelled, value, what=where)
        if item.id in seen:
            raise InvalidInput(f"{where}: the id {item.id!r} is given twice", param="id")
        seen.add(item.id)
        found.append(item)
    if not found:
        raise InvalidInput(f"{path.name}: expected labelled answers, got none")
    return tuple(found)


def measure_agreement(
    labelled: Sequence[Labelled],
    judge: Judge,
    *,
    rubric: Rubric,
    prefer: Callable[[str, str, str], Preference | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Let a judge rate labelled answers.

    Args:
        rubric: what it is asked; an answer's own reference replaces the rubric's.
        prefer: `(question, good, bad)`, asked for each pair; None leaves pairs out.
    """
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="judge") as pool:
        ratings = []
        for rating in pool.map(lambda item: _rated(item, judge, rubric), labelled):
            ratings.append(rating)
            if progress is not None:
                progress(len(ratings), len(labelled))
        pairs = pairs_of(labelled) if prefer is not None else []
        choices = list(pool.map(lambda pair: prefer(*pair) if prefer else None, pairs))
    found = agreement(
        [item.good for item in labelled],
        [None if one.score is None else one.score >= rubric.min for one in ratings],
    )
    return Agreement(
        **{
            **asdict(found),
            "pairs": len(pairs),
            "preferred": choices.count("first"),
            "tied": choices.count("tie") + choices.count(None),
        }
    )


def _rated(item: Labelled, judge: Judge, rubric: Rubric) -> Rating:
    if item.reference is not None:
        rubric = rubric.model_copy(update={"reference": item.reference})
    return judge.rate(rubric=rubric, question=item.question, answer=item.answer)


def pairs_of(labelled: Sequence[Labelled]) -> list[tuple[str, str, str]]:
    """`(question, good answer, bad answer)`: of each task the first of either kind."""
    good: dict[str, Labelled] = {}
    bad: dict[str, Labelled] = {}
    for item in labelled:
        (good if item.good else bad).setdefault(item.task, item)
    return [
        (item.question, item.answer, bad[task].answer) for task, item in good.items() if task in bad
    ]


def agreement(people: Sequence[bool], judged: Sequence[bool | None]) -> Agreement:
    """Compare labels; a None of the judge is no score and counts in `labelled` only."""
    both = [
        (mine, theirs) for mine, theirs in zip(people, judged, strict=True) if theirs is not None
    ]
    if not both:
        return Agreement(len(people), 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    pairs = np.array(both, dtype=bool)
    drawn = np.random.default_rng(0).integers(0, len(pairs), (RESAMPLES, len(pairs)))
    low, high = np.quantile(_kappas(pairs[drawn]), [0.025, 0.975])
    return Agreement(
        labelled=len(people),
        scored=len(pairs),
        accuracy=float((pairs[:, 0] == pairs[:, 1]).mean()),
        kappa=float(_kappas(pairs[None])[0]),
        low=float(low),
        high=float(high),
        said_good=float(pairs[:, 1].mean()),
        are_good=float(pairs[:, 0].mean()),
    )


def _kappas(pairs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Kappa of each sample; shape [samples, answers, 2]."""
    agreed = (pairs[..., 0] == pairs[..., 1]).mean(axis=1)
    mine, theirs = pairs[..., 0].mean(axis=1), pairs[..., 1].mean(axis=1)
    chance = mine * theirs + (1 - mine) * (1 - theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (agreed - chance) / (1 - chance)
    return np.where(chance < 1, found, 0.0)
