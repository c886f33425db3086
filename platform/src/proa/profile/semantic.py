"""Whether questions, or answers, turned to other things: the kernel test and the topics' shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

from proa.findings.observation import Observation
from proa.profile.embedding import mean_of
from proa.profile.language import LanguageState, SideSums
from proa.profile.language_reference import LanguageReference, Side
from proa.profile.rates import BLOCKS, Compared, Rate, compare_rates, t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SemanticJudge", "mixture_quantile"]

ENOUGH_ROWS: Final = 100
"""Embedded texts a window needs to be judged."""
FLOOR: Final = 0.03
"""A change smaller than this share of texts turning to one other topic matters to nobody."""
TOPIC_FLOOR: Final = 0.02
_LEVEL: Final = 0.0025
"""False alarms of each of the two tests, all topics together."""


@dataclass(frozen=True, slots=True)
class _Base:
    """What a window is compared with."""

    rows: int
    mean: NDArray[np.float64]
    spectrum: tuple[float, float, float]
    reach: float
    ratios: tuple[float, ...]
    """Statistics of unchanged windows, each against the others, in units of `spectrum[0]`."""
    topics: tuple[int, ...]
    topic_windows: Sequence[Sequence[int]]
    against: str


class SemanticJudge:
    """Judges embeddings of one release."""

    def __init__(self, reference: LanguageReference) -> None:
        self._reference = reference

    def observe(self, state: LanguageState, past: Sequence[LanguageState]) -> list[Observation]:
        """`questions` and `answers` against the reference, and against the windows before."""
        reference, found = self._reference, []
        before = [window for window in past if window.digest == reference.digest]
        if state.digest != reference.digest or state.questions is None or state.answers is None:
            return []
        found.append(self._judge("questions", state.questions, _of_side(reference.questions)))
        if reference.answers is not None:
            found.append(self._judge("answers", state.answers, _of_side(reference.answers)))
        for name, side in (("questions", state.questions), ("answers", state.answers)):
            sums = [w.questions if name == "questions" else w.answers for w in before]
            base = self._of_past([one for one in sums if one is not None])
            found.append(self._judge(f"{name}, lately", side, base))
        return found

    def _judge(self, subject: str, side: SideSums, base: _Base | None) -> Observation:
        if base is None:
            message = f"too few windows before to compare {subject} with ({BLOCKS} are needed)"
            return Observation("semantic_drift", subject, None, None, None, "share", message)
        if side.rows < ENOUGH_ROWS or base.rows < ENOUGH_ROWS:
            message = f"{side.rows} embedded {subject}: at least {ENOUGH_ROWS} are needed"
            return Observation("semantic_drift", subject, None, None, None, "share", message)
        shift, limit = _shift(side, base)
        topics = self._topics(side, base)
        changed = [topic for topic in topics if topic[1].holds]
        holds = shift > limit or bool(changed)
        shown = max(changed or topics, key=lambda topic: topic[2])
        effect, ordinary = shift, limit
        if changed and shift <= limit:
            limits = shown[1]
            effect, ordinary = shown[2], abs((limits.limit or 0.0) - (limits.before or 0.0))
        return Observation(
            "semantic_drift", subject, holds, effect, ordinary, "share",
            self._message(subject, holds, shift, shown, base),
            evidence={
                "rows": side.rows,
                "shift": round(shift, 4),
                "shift_limit": round(limit, 4),
                "topics": [_topic_json(topic) for topic in _largest(topics)],
                "against": base.against,
                "embedder": self._reference.embedder_name,
            },
        )  # fmt: skip

    def _topics(self, side: SideSums, base: _Base) -> list[tuple[str, Compared, float]]:
        """Name, comparison and absolute change of every topic."""
        level = _LEVEL / len(self._reference.topics)
        windows = base.topic_windows if len(base.topic_windows) >= BLOCKS else None
        found = []
        for place, topic in enumerate(self._reference.topics):
            now = Rate(int(side.topics[place]), side.rows)
            if windows is None:
                past = [Rate(base.topics[place], base.rows)]
            else:
                past = [Rate(counts[place], sum(counts)) for counts in windows]
            compared = compare_rates(
                now,
                past,
                floor=TOPIC_FLOOR,
                direction="both",
                level=level,
                independent=windows is None,
            )
            change = abs(now.share - (compared.before or 0.0))
            found.append((topic.name, compared, change))
        return found

    def _message(
        self,
        subject: str,
        holds: bool,
        shift: float,
        shown: tuple[str, Compared, float],
        base: _Base,
    ) -> str:
        name, compared, _ = shown
        what = subject.partition(",")[0]
        if not holds:
            return f"{what} are spread over the topics as in {base.against}"
        now, before = compared.now or 0.0, compared.before or 0.0
        verb = "grew" if now > before else "shrank"
        return (
            f"{what} changed as if {shift:.0%} had turned to another topic: “{name}” {verb} from "
            f"{before:.1%} in {base.against} to {now:.1%}"
        )

    def _of_past(self, windows: Sequence[SideSums]) -> _Base | None:
        windows = [window for window in windows if window.rows >= ENOUGH_ROWS // 2]
        if len(windows) < BLOCKS:
            return None
        total = windows[0]
        for window in windows[1:]:
            total = total.merge(window)
        mean = mean_of(total.features, total.rows)
        known = self._reference.questions
        # Random features have length 1 on average, so their spread follows from their mean; its
        # shape is taken from the reference.
        first = max(1e-3, 1.0 - float(mean @ mean))
        scale = first / known.spectrum[0]
        spectrum = (first, known.spectrum[1] * scale**2, known.spectrum[2] * scale**3)
        return _Base(
            total.rows,
            mean,
            spectrum,
            known.reach,
            tuple(_ratio(window, total, first) for window in windows),
            tuple(int(count) for count in total.topics),
            [[int(count) for count in window.topics] for window in windows],
            f"the {len(windows)} windows before",
        )


def mixture_quantile(spectrum: tuple[float, float, float], level: float) -> float:
    """What a sum of chi-squares with these weights exceeds with probability `level`.

    Args:
        spectrum: sums of first, second and third powers of the weights: the first three cumulants
            are matched by a moved and stretched chi-square (Hall 1983), whose quantile is Wilson
            and Hilferty's.
    """
    first, second, third = spectrum
    variance, skew = 2 * second, 8 * third
    freedom = 8 * variance**3 / skew**2
    part = 2 / (9 * freedom)
    z = NormalDist().inv_cdf(1 - level)
    quantile = freedom * (1 - part + z * math.sqrt(part)) ** 3
    return first + math.sqrt(variance / (2 * freedom)) * (quantile - freedom)


def _shift(side: SideSums, base: _Base) -> tuple[float, float]:
    """The change in shares of texts, freed of what chance alone adds, and the ordinary one."""
    difference = mean_of(side.features, side.rows) - base.mean
    noise = 1 / side.rows + 1 / base.rows
    square = float(difference @ difference) - base.spectrum[0] * noise
    quantile = mixture_quantile(base.spectrum, _LEVEL)
    if len(base.ratios) >= BLOCKS:
        count = len(base.ratios)
        mean = sum(base.ratios) / count
        spread = math.sqrt(sum((ratio - mean) ** 2 for ratio in base.ratios) / (count - 1))
        reach = t_quantile(_LEVEL, count - 1) * math.sqrt(1 + 1 / count) * spread
        quantile = max(quantile, base.spectrum[0] * (mean + reach))
    ordinary = math.sqrt(max(0.0, (quantile - base.spectrum[0]) * noise)) / base.reach
    return math.sqrt(max(0.0, square)) / base.reach, max(FLOOR, ordinary)


def _of_side(side: Side) -> _Base:
    return _Base(
        side.rows,
        mean_of(side.features, side.rows),
        side.spectrum,
        side.reach,
        tuple(ratio for _, ratio in side.blocks),
        side.topics,
        side.block_topics,
        "the release's reference",
    )


def _ratio(window: SideSums, total: SideSums, scale: float) -> float:
    """A window against all the others, in units of what independent rows would give on average."""
    rest = total.rows - window.rows
    mine = mean_of(window.features, window.rows)
    others = mean_of(total.features - window.features, rest)
    square = float((mine - others) @ (mine - others))
    return square / (1 / window.rows + 1 / rest) / scale


def _largest(topics: Sequence[tuple[str, Compared, float]]) -> list[tuple[str, Compared, float]]:
    return sorted(topics, key=lambda topic: -topic[2])[:5]


def _topic_json(topic: tuple[str, Compared, float]) -> dict[str, Any]:
    name, compared, _ = topic
    return {
        "topic": name,
        "then": round(compared.before or 0.0, 4),
        "now": round(compared.now or 0.0, 4),
        "holds": compared.holds,
    }
