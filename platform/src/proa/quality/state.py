"""What is known of the quality of some rows: whole numbers and exact sums, so that states merge.

`merge` is associative and commutative, and the state of a union is the merge of the states: a day
that is counted in parts, late or in another order has the same state to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Final

from proa.quality.answered import AnsweredRow, agrees, truth_of
from proa.quality.confusion import Confusion
from proa.quality.exact import Parts, merged, parts_of, total
from proa.quality.maturity import no_delays, place_of
from proa.quality.scores import ScoreCounts

__all__ = ["BINS", "METRICS", "VERSION", "QualityState", "merge_all"]

VERSION: Final = 1
BINS: Final = 10
"""Bins of the reliability table, of equal width."""
SAID_BINS: Final = 100
"""Bins of what was said of every row, labelled or not: what the estimate works on."""
_EPS: Final = 2.220446049250313e-16

METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "probability": ("roc_auc", "brier", "log_loss", "accuracy", "precision", "recall"),
    "label": ("accuracy",),
    "number": ("mae", "rmse", "bias"),
}
"""Metrics of each form, the one that is judged first."""


@dataclass(frozen=True, slots=True)
class QualityState:
    """Counts of rows.

    Attributes:
        form: of the rows; empty for no rows at all.
        rows: answered rows.  labelled: those whose truth is known and fits.
        unfit: labels that are no truth of such a row.
        right: labelled rows whose label was right.
        confusion: of labelled rows with a yes-or-no decision.
        bins: per bin of what was said: labelled rows, those that came true, the sum of what was
            said.
        sums: over labelled rows, by name.
        scores: of labelled rows; empty where only `whole` states keep them.
        said: per decision (none, no, yes) the answered rows in `SAID_BINS` bins.
        estimates: over all answered rows, per decision the sum of probabilities; `variance` the
            sum of p (1 - p).
        delays: labelled rows by delay, `maturity.AGES`.
        explained: answered rows whose reasons were kept.
        reasons: feature → the sum of its contributions' sizes, the sum of its contributions.
    """

    form: str = ""
    rows: int = 0
    labelled: int = 0
    unfit: int = 0
    right: int = 0
    confusion: Confusion = field(default_factory=Confusion)
    bins: tuple[tuple[int, int, Parts], ...] = ()
    sums: Mapping[str, Parts] = field(default_factory=dict)
    scores: ScoreCounts = field(default_factory=ScoreCounts)
    said: tuple[tuple[int, ...], ...] = ()
    estimates: Mapping[str, Parts] = field(default_factory=dict)
    delays: tuple[int, ...] = field(default_factory=no_delays)
    explained: int = 0
    reasons: Mapping[str, tuple[Parts, Parts]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[AnsweredRow], *, whole: bool = True) -> QualityState:
        """The state of rows of one form.

        Args:
            whole: keep scores, what was said and reasons as well; slices and groups do without.
        """
        if not rows:
            return cls()
        form = rows[0].form
        known = [(row, truth_of(form, row.truth)) for row in rows if row.truth is not None]
        fitting = [(row, truth) for row, truth in known if truth is not None and _usable(row)]
        delays = list(no_delays())
        for row, _ in fitting:
            delays[place_of(row.delay or 0.0)] += 1
        state = _FORMS[form](fitting)
        return cls(
            form=form,
            rows=len(rows),
            labelled=len(fitting),
            unfit=len(known) - len(fitting),
            delays=tuple(delays),
            **(state | (_whole(form, rows, fitting) if whole else {})),
        )

    def merge(self, other: QualityState) -> QualityState:
        """The state of both.

        Raises:
            ValueError: they are of different forms: their rows have nothing in common.
        """
        if not self.form or not other.form:
            return self if self.form else other
        if self.form != other.form:
            raise ValueError(f"states of {self.form} and {other.form} do not merge")
        return QualityState(
            form=self.form,
            rows=self.rows + other.rows,
            labelled=self.labelled + other.labelled,
            unfit=self.unfit + other.unfit,
            right=self.right + other.right,
            confusion=self.confusion + other.confusion,
            bins=_both(self.bins, other.bins, _bin_sum),
            sums=_maps(self.sums, other.sums, lambda a, b: merged((a, b))),
            scores=self.scores.merge(other.scores),
            said=_both(self.said, other.said, lambda a, b: _both(a, b, int.__add__)),
            estimates=_maps(self.estimates, other.estimates, lambda a, b: merged((a, b))),
            delays=_both(self.delays, other.delays, int.__add__),
            explained=self.explained + other.explained,
            reasons=_maps(self.reasons, other.reasons, _reason_sum),
        )

    def sum(self, name: str) -> float:
        """A sum over labelled rows, rounded once."""
        return total(self.sums.get(name, ()))

    def parts(self, metric: str) -> tuple[float, float] | None:
        """Top and bottom of a metric that is a ratio of sums; None for those that are none."""
        if metric in ("brier", "log_loss", "mae", "bias", "said", "true"):
            return self.sum(metric), self.labelled
        if metric == "gap":
            return self.sum("said") - self.sum("true"), self.labelled
        if metric == "accuracy" and self.form == "label":
            return self.right, self.labelled
        if metric in ("roc_auc", "rmse", "ece"):
            return None
        return self.confusion.parts(metric)

    def metric(self, name: str) -> float | None:
        """A metric over the labelled rows; None where it is not defined."""
        if not self.labelled:
            return None
        if name == "roc_auc":
            return self.scores.auc
        if name == "rmse":
            return math.sqrt(self.sum("square") / self.labelled)
        if name == "ece":
            gaps = (abs(total(said) - true) for _, true, said in self.bins)
            return math.fsum(gaps) / self.labelled
        parts = self.parts(name)
        assert parts is not None
        return parts[0] / parts[1] if parts[1] else None

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "form": self.form,
            "counts": [self.rows, self.labelled, self.unfit, self.right, self.explained],
            "confusion": [
                self.confusion.tp,
                self.confusion.fp,
                self.confusion.fn,
                self.confusion.tn,
            ],
            "bins": self.bins,
            "sums": dict(self.sums),
            "scores": self.scores.to_json(),
            "said": self.said,
            "estimates": dict(self.estimates),
            "delays": self.delays,
            "reasons": dict(self.reasons),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> QualityState:
        """Read what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: another version or form.
        """
        if value["version"] != VERSION:
            raise ValueError(f"a quality state of version {value['version']!r}: expected {VERSION}")
        rows, labelled, unfit, right, explained = value["counts"]
        return cls(
            form=value["form"],
            rows=rows,
            labelled=labelled,
            unfit=unfit,
            right=right,
            confusion=Confusion(*value["confusion"]),
            bins=tuple((rows, true, tuple(said)) for rows, true, said in value["bins"]),
            sums={name: tuple(parts) for name, parts in value["sums"].items()},
            scores=ScoreCounts.from_json(value["scores"]),
            said=tuple(tuple(bins) for bins in value["said"]),
            estimates={name: tuple(parts) for name, parts in value["estimates"].items()},
            delays=tuple(value["delays"]),
            explained=explained,
            reasons={
                name: (tuple(sizes), tuple(parts))
                for name, (sizes, parts) in value["reasons"].items()
            },
        )


def merge_all(states: Iterable[QualityState], *, scores: bool = True) -> QualityState:
    """The state of all of them.

    Args:
        scores: without them, which make most of the work, there is no AUC.
    """
    if not scores:
        states = (replace(state, scores=ScoreCounts()) for state in states)
    return reduce(QualityState.merge, states, QualityState())


Fitting = Sequence[tuple[AnsweredRow, Any]]


def _usable(row: AnsweredRow) -> bool:
    if row.form == "label":
        return row.decided is not None
    if row.said is None or not math.isfinite(row.said):
        return False
    return row.form == "number" or 0.0 <= row.said <= 1.0


def _probabilities(rows: Fitting) -> dict[str, Any]:
    bins: list[tuple[list[float], list[float]]] = [([], []) for _ in range(BINS)]
    for row, truth in rows:
        said, true = bins[min(int(row.said * BINS), BINS - 1)]  # type: ignore[operator]
        said.append(row.said)  # type: ignore[arg-type]
        true.append(truth)
    return {
        "confusion": _decisions(rows),
        "bins": tuple((len(said), int(sum(true)), parts_of(said)) for said, true in bins),
        "sums": {
            "said": parts_of(row.said for row, _ in rows),  # type: ignore[misc]
            "true": parts_of(truth for _, truth in rows),
            "brier": parts_of((row.said - truth) ** 2 for row, truth in rows),
            "log_loss": parts_of(_log_loss(row.said, truth) for row, truth in rows),  # type: ignore[arg-type]
        },
    }


def _labels(rows: Fitting) -> dict[str, Any]:
    binary = [(row, truth_of("probability", truth)) for row, truth in rows]
    return {
        "right": sum(agrees(row.decided, truth) for row, truth in rows),
        "confusion": _decisions([(row, truth) for row, truth in binary if truth is not None]),
    }


def _numbers(rows: Fitting) -> dict[str, Any]:
    errors = [row.said - truth for row, truth in rows]
    return {
        "sums": {
            "said": parts_of(row.said for row, _ in rows),  # type: ignore[misc]
            "true": parts_of(truth for _, truth in rows),
            "bias": parts_of(errors),
            "mae": parts_of(map(abs, errors)),
            "square": parts_of(error * error for error in errors if abs(error) < _LARGE),
        }
    }


_LARGE: Final = 1e150
_FORMS: Final[Mapping[str, Callable[[Fitting], dict[str, Any]]]] = {
    "probability": _probabilities,
    "label": _labels,
    "number": _numbers,
}


def _decisions(rows: Fitting) -> Confusion:
    return Confusion.of(
        (row.decided == "true", truth > 0.5)
        for row, truth in rows
        if row.decided in ("true", "false")
    )


def _log_loss(said: float, truth: float) -> float:
    p = min(max(said, _EPS), 1 - _EPS)
    return -math.log(p) if truth > 0.5 else -math.log1p(-p)


def _whole(form: str, rows: Sequence[AnsweredRow], fitting: Fitting) -> dict[str, Any]:
    explained = sum(row.reasons is not None for row in rows)
    found: dict[str, Any] = {"explained": explained, "reasons": _reasons(rows)}
    if form != "probability":
        return found
    said = [[0] * SAID_BINS for _ in _DECISIONS]
    sums: list[list[float]] = [[] for _ in _DECISIONS]
    for row in filter(_usable, rows):
        decision = _DECISIONS.index(row.decided if row.decided in _DECISIONS else None)
        said[decision][min(int(row.said * SAID_BINS), SAID_BINS - 1)] += 1  # type: ignore[operator]
        sums[decision].append(row.said)  # type: ignore[arg-type]
    return found | {
        "scores": ScoreCounts.of((float(row.said or 0.0), truth > 0.5) for row, truth in fitting),
        "said": tuple(map(tuple, said)),
        "estimates": {
            **{str(name): parts_of(some) for name, some in zip(_DECISIONS, sums, strict=True)},
            "variance": parts_of(p * (1 - p) for some in sums for p in some),
        },
    }


_DECISIONS: Final = (None, "false", "true")


def _reasons(rows: Sequence[AnsweredRow]) -> dict[str, tuple[Parts, Parts]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        for feature, part in (row.reasons or {}).items():
            if math.isfinite(part):
                found.setdefault(feature, []).append(part)
    return {
        feature: (parts_of(map(abs, parts)), parts_of(parts)) for feature, parts in found.items()
    }


def _both(mine: Sequence[Any], theirs: Sequence[Any], add: Callable[[Any, Any], Any]) -> Any:
    if not mine or not theirs:
        return tuple(mine or theirs)
    return tuple(add(a, b) for a, b in zip(mine, theirs, strict=True))


def _maps(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], add: Callable[[Any, Any], Any]
) -> dict[str, Any]:
    found = dict(mine)
    for name, value in theirs.items():
        found[name] = add(found[name], value) if name in found else value
    return found


def _bin_sum(a: tuple[int, int, Parts], b: tuple[int, int, Parts]) -> tuple[int, int, Parts]:
    return a[0] + b[0], a[1] + b[1], merged((a[2], b[2]))


def _reason_sum(a: tuple[Parts, Parts], b: tuple[Parts, Parts]) -> tuple[Parts, Parts]:
    return merged((a[0], b[0])), merged((a[1], b[1]))
