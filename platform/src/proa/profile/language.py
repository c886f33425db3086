"""What a language release met in one window: sums that add up, whatever their order.

Everything in it is a whole number, so `merge` is associative and commutative to the last bit:
windows, shards and late events may come together in any way. Size is bounded (about 15 KB):
reasons, rules and embedders beyond the first few count as `other`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from proa.errors import Conflict, InvalidInput
from proa.profile.embedding import FEATURES, decode_vectors
from proa.profile.language_reference import LanguageReference
from proa.profile.rates import Mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LanguageState", "SideSums", "mean_of_moments"]

_FORM: Final = b"proa-language 1\n"
_ONE: Final = 1 << 20
"""What 1.0 is as an integer in moments; `_WEIGHT` in weights."""
_WEIGHT: Final = 1 << 10
_NAMES: Final = 40
"""Different finish reasons, guard rules, embedders and indexes that are told apart, each."""
_LEFT_OUT: Final = frozenset({"gate", "judge", "shadow"})


@dataclass(slots=True)
class SideSums:
    """Sums over embedded questions, or answers: rows, features, rows per topic."""

    rows: int
    features: NDArray[np.int64]
    topics: NDArray[np.int64]

    @classmethod
    def of(cls, topics: int) -> SideSums:
        import numpy as np

        return cls(0, np.zeros(FEATURES, dtype=np.int64), np.zeros(topics, dtype=np.int64))

    def add(self, reference: LanguageReference, vectors: NDArray[np.float32]) -> None:
        """Count vectors of length 1, in place."""
        import numpy as np

        if not len(vectors):
            return
        self.rows += len(vectors)
        self.features = self.features + reference.random_features.sums(vectors)
        found = np.bincount(reference.topics_of(vectors), minlength=len(self.topics))
        self.topics = self.topics + found

    def merge(self, other: SideSums) -> SideSums:
        return SideSums(
            self.rows + other.rows, self.features + other.features, self.topics + other.topics
        )


@dataclass(slots=True)
class LanguageState:
    """Counts of one window.

    Attributes:
        digest: the reference's; None when the release has no language reference.
        counts: `calls`, `rows` (answered), `refused`, `empty` (nothing retrieved), `cached`,
            `feedback`, `feedback_good`, `judged`, `judged_good`, `finish:REASON`, `guard:RULE`,
            `embedder:DIGEST` (other than the reference's), `index:DIGEST`, and `w`, `w_good`,
            `w_square` of weighted judgements.
        moments: name → rows, sum, sum of squares, in units of 2^-20 and 2^-40.
        newest: of the index's documents; `last`: the latest answer. RFC 3339, empty before any.
    """

    digest: str | None
    counts: dict[str, int] = field(default_factory=dict)
    moments: dict[str, list[int]] = field(default_factory=dict)
    questions: SideSums | None = None
    answers: SideSums | None = None
    newest: str = ""
    last: str = ""

    @classmethod
    def of(cls, reference: LanguageReference | None) -> LanguageState:
        """Nothing counted yet."""
        if reference is None:
            return cls(None)
        topics = len(reference.topics)
        return cls(reference.digest, questions=SideSums.of(topics), answers=SideSums.of(topics))

    @property
    def rows(self) -> int:
        """Answers that came through."""
        return self.counts.get("rows", 0)

    def add(
        self, events: Iterable[Mapping[str, Any]], reference: LanguageReference | None = None
    ) -> None:
        """Count checked events of one language release, in place.

        Args:
            events: answers, judgements and feedback; others are left out.
            reference: the one this state was made `of`; embeddings are left out without it.

        Raises:
            Conflict: another reference.
        """
        if reference is not None and reference.digest != self.digest:
            raise Conflict("a language state is counted with the reference it was made of")
        answered = []
        for event in events:
            kind = event["type"]
            if kind == "judgement":
                self._judgement(event)
            elif kind == "feedback":
                self._feedback(event)
            elif kind == "answer" and event["purpose"] not in _LEFT_OUT:
                self._count("calls")
                self._ending(event)
                if event["status"] < 400:
                    answered.append(event)
        for event in answered:
            self._answer(event)
        if reference is not None:
            self._embeddings(answered, reference)

    def _answer(self, event: Mapping[str, Any]) -> None:
        self._count("rows")
        self.last = max(self.last, event["time"])
        if event["refused"]:
            self._count("refused")
        for rule in {str(item.get("rule")) for item in event["guard"]}:
            self._count_named("guard", rule)
        self._retrieval(event)
        self._number("question_length", math.log1p(len(event["question"])))
        if event["answer"] and not event["refused"]:
            self._number("answer_length", math.log1p(len(event["answer"])))
        for name in ("tokens_in", "tokens_out"):
            if event[name]:
                self._number(name, math.log1p(event[name]))
        cached = event.get("tokens_cached")
        if cached is not None and event["tokens_in"]:
            self._number("cached", min(1.0, cached / event["tokens_in"]))
        grounded = event.get("groundedness")
        if grounded is not None:
            self._number("groundedness", float(grounded))

    def _retrieval(self, event: Mapping[str, Any]) -> None:
        index = event.get("index")
        if index is not None:
            self._count_named("index", str(index.get("digest"))[:80])
            self.newest = max(self.newest, str(index.get("newest") or "")[:40])
        if event["refused"]:
            return  # a guard may stop a question before anything is looked for
        passages = event["retrieved"]
        if passages or index is not None:
            self._count("searched")
        if passages:
            score = passages[0].get("score")
            if isinstance(score, (int, float)) and math.isfinite(score):
                self._number("retrieval_score", max(-1.0, min(1.0, float(score))))
        elif index is not None:
            self._count("empty")

    def _ending(self, event: Mapping[str, Any]) -> None:
        self._count_named("finish", str(event["finish_reason"] or "none")[:40])

    def _feedback(self, event: Mapping[str, Any]) -> None:
        good = opinion_of(event["value"])
        if good is not None:
            self._count("feedback")
            self._count("feedback_good", int(good))

    def _judgement(self, event: Mapping[str, Any]) -> None:
        good = event["good"]
        if good is None:
            self._count("judged_unread")
            return
        weight = round(float(event["weight"]) * _WEIGHT)
        self._count("judged")
        self._count("judged_good", int(good))
        self._count("w", weight)
        self._count("w_good", weight * int(good))
        self._count("w_square", weight * weight)

    def _embeddings(
        self, events: Sequence[Mapping[str, Any]], reference: LanguageReference
    ) -> None:
        found: dict[str, list[str]] = {"question": [], "answer": []}
        for event in events:
            given = event.get("embeddings")
            if given is None:
                continue
            if given.get("embedder") != reference.embedder:
                self._count_named("embedder", str(given.get("embedder"))[:80])
                continue
            for name, texts in found.items():
                if given.get(name):
                    texts.append(given[name])
        for name, sums in (("question", self.questions), ("answer", self.answers)):
            assert sums is not None
            vectors = decode_vectors(found[name], reference.dimension)
            self._count("unread_embeddings", len(found[name]) - len(vectors))
            sums.add(reference, vectors)

    def merge(self, other: LanguageState) -> LanguageState:
        """Both together, as a new value.

        Raises:
            Conflict: their references differ.
        """
        if other.digest != self.digest:
            raise Conflict("language states of different references cannot be merged")
        merged = LanguageState(self.digest, newest=max(self.newest, other.newest))
        merged.last = max(self.last, other.last)
        for state in (self, other):
            for name, count in state.counts.items():
                merged.counts[name] = merged.counts.get(name, 0) + count
            for name, sums in state.moments.items():
                known = merged.moments.get(name, [0, 0, 0])
                merged.moments[name] = [a + b for a, b in zip(known, sums, strict=True)]
        if self.questions and other.questions and self.answers and other.answers:
            merged.questions = self.questions.merge(other.questions)
            merged.answers = self.answers.merge(other.answers)
        return merged

    def named(self, family: str) -> dict[str, int]:
        """Counts of `finish`, `guard`, `embedder` or `index` by name."""
        start = family + ":"
        return {
            name.removeprefix(start): count
            for name, count in self.counts.items()
            if name.startswith(start)
        }

    def mean(self, name: str) -> Mean:
        """The sums of one number."""
        return mean_of_moments(self.moments.get(name, (0, 0, 0)))

    def to_bytes(self) -> bytes:
        """Everything, versioned."""
        value = {
            "digest": self.digest,
            "counts": dict(sorted(self.counts.items())),
            # beyond 64 bits after some 10^7 rows, which JSON numbers do not take
            "moments": {name: [str(n) for n in m] for name, m in sorted(self.moments.items())},
            "newest": self.newest,
            "last": self.last,
            "sides": [_side_json(side) for side in (self.questions, self.answers)],
        }
        return _FORM + orjson.dumps(value)

    @classmethod
    def from_bytes(cls, data: bytes) -> LanguageState:
        """Read what `to_bytes` wrote.

        Raises:
            InvalidInput: another form or version.
        """
        if not data.startswith(_FORM):
            raise InvalidInput(f"a language state of an unknown form {data[:20]!r}")
        try:
            value = orjson.loads(data[len(_FORM) :])
            questions, answers = (_side_from(side) for side in value["sides"])
            moments = {name: [int(n) for n in sums] for name, sums in value["moments"].items()}
            return cls(
                value["digest"],
                value["counts"],
                moments,
                questions,
                answers,
                value["newest"],
                value["last"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"no language state: {error!r}") from error

    def _count(self, name: str, by: int = 1) -> None:
        if by:
            self.counts[name] = self.counts.get(name, 0) + by

    def _count_named(self, family: str, name: str) -> None:
        key = f"{family}:{name}"
        if key not in self.counts and len(self.named(family)) >= _NAMES:
            key = f"{family}:(other)"
        self._count(key)

    def _number(self, name: str, value: float) -> None:
        whole = round(value * _ONE)
        sums = self.moments.setdefault(name, [0, 0, 0])
        sums[0] += 1
        sums[1] += whole
        sums[2] += whole * whole


def mean_of_moments(sums: Sequence[int]) -> Mean:
    """Moments of whole numbers as sums of the numbers they stand for."""
    rows, total, squares = sums
    return Mean(rows, total / _ONE, squares / (_ONE * _ONE))


def opinion_of(value: Any) -> bool | None:
    """Whether a person's word means good; None when it says neither.

    True, a positive number up to 1, `up`, `good`, `yes` … are good; of a scale of 1 to 5, 4 and 5.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            return None
        return value > 0 if value <= 1 else None if value == 3 else value > 3
    return _WORDS.get(str(value).strip().casefold())


_WORDS: Final = dict.fromkeys(("up", "good", "yes", "true", "right", "helpful", "👍"), True) | (
    dict.fromkeys(("down", "bad", "no", "false", "wrong", "unhelpful", "👎"), False)
)


def _side_json(side: SideSums | None) -> dict[str, Any] | None:
    if side is None:
        return None
    features = base64.b64encode(side.features.astype("<i8").tobytes()).decode("ascii")
    return {"rows": side.rows, "features": features, "topics": side.topics.tolist()}


def _side_from(value: Mapping[str, Any] | None) -> SideSums | None:
    import numpy as np

    if value is None:
        return None
    features = np.frombuffer(base64.b64decode(value["features"]), dtype="<i8").astype(np.int64)
    if len(features) != FEATURES:
        raise ValueError(f"{len(features)} features: expected {FEATURES}")
    return SideSums(value["rows"], features, np.array(value["topics"], dtype=np.int64))
