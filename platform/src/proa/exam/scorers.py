"""Scorers of golden tasks: pure rules from an answer to the expectations that did not hold.

Most need the answer alone. `similarity`, `grounded` and `rubric` need an aid (an embedder, the
cited passages, a judge); without it a task has no result, which is neither a pass nor a fail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from proa.exam.grounding import groundedness

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Strings = list[str]
SAME_MEANING: Final = 0.7
"""Cosine from which two answers without citations count as one; MiniLM's sentences on one fact
lie above, on one topic below it (seen with this project's answers)."""
_REFUSAL = re.compile(
    r"^\W*(?:sorry|i'?m sorry|i am sorry|i apologi[sz]e|unfortunately)?\W*"
    r"(?:but )?(?:i (?:cannot|can ?not|can't|am unable|am not able|do not know|don't know|will not"
    r"|won't|only answer|can only)|as an ai)",
    re.IGNORECASE,
)


class Similar(BaseModel):
    """The cosine to a reference answer, by sentence embeddings, is at least `min`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    to: str = Field(min_length=1)
    min: float = Field(gt=0, le=1)


class Rubric(BaseModel):
    """A judge's score from 1 to 5 for what `ask` asks of the answer is at least `min`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ask: str = Field(min_length=1)
    min: int = Field(ge=2, le=5)
    reference: str | None = None


class Expect(BaseModel):
    """What an answer must be like; at least one key.

    `contains` all of, `contains_any` one of, `absent` none of (all ignoring case and runs of white
    space); `regex` is searched, ignoring case; `exact` is the whole answer; `cites`: each entry is
    a citation's id, source or title, or the start of its id or source; `refuses`: whether the
    request is turned down; `json_schema`: the answer is JSON that the schema allows; `similarity`
    to a reference answer; `grounded`: the least share of its sentences that the cited passages
    support; `max_tokens` it has, by the engine's count; `max_ttft_ms` to its first token;
    `rubric`: a judge's score; `consistent`: it agrees with the task it is a paraphrase of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    contains: Strings | None = Field(default=None, min_length=1)
    contains_any: Strings | None = Field(default=None, min_length=1)
    regex: str | None = None
    exact: str | None = None
    absent: Strings | None = Field(default=None, min_length=1)
    cites: Strings | None = Field(default=None, min_length=1)
    refuses: bool | None = None
    json_schema: dict[str, Any] | None = None
    similarity: Similar | None = None
    grounded: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_ttft_ms: float | None = Field(default=None, gt=0)
    rubric: Rubric | None = None
    consistent: bool | None = None

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"expected a regular expression: {error}") from error
        return value

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            import jsonschema

            try:
                jsonschema.Draft202012Validator.check_schema(value)
            except jsonschema.SchemaError as error:
                raise ValueError(f"expected a JSON schema: {error.message}") from error
        return value

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("expected at least one expectation")
        return self


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer as a scorer sees it: the model's own text, without the list of sources.

    Attributes:
        question: the last message it answers; a judge reads it.
        tokens_out, ttft_ms: None where nobody measured.
    """

    text: str
    citations: Sequence[Mapping[str, Any]] = ()
    refused: bool = False
    question: str = ""
    tokens_out: int | None = None
    ttft_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """A judge's score from 1 to 5; None when what it said cannot be read, and `why` says why.

    `tokens` are what the engine counted for it, 0 where it does not say; `asked` is False when the
    engine could not be asked at all, so that asking again may help.
    """

    score: int | None
    why: str = ""
    tokens: int = field(default=0, compare=False)
    asked: bool = field(default=True, compare=False)


class Judge(Protocol):
    """Who rates answers: `proa.exam.judge.EngineJudge`."""

    @property
    def decides(self) -> bool:
        """Whether it agrees with people well enough to pass or fail a task."""

    def rate(self, *, rubric: Rubric, question: str, answer: str) -> Rating:
        """Rate one answer; asked from several threads at once."""


Embed = Callable[[list[str]], "NDArray[np.float32]"]
"""Texts to rows of length 1."""
Passages = Callable[[Sequence[str]], list[str]]
"""Ids of citations to their passages' texts, of one side's own index."""


@dataclass(frozen=True, slots=True)
class Aids:
    """What some expectations need besides the answer; None where it is not here."""

    embed: Embed | None = None
    passages: Passages | None = None
    judge: Judge | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a task.

    Attributes:
        failures: the expectations that did not hold, one sentence each; empty when it passed.
        scores: figures from 0 to 1 by name: `similarity`, `grounded`, `rubric`, `consistency`.
        unscored: why there is no result; then the task counts as not answered, never as passed.
    """

    failures: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    unscored: str | None = None

    @property
    def passed(self) -> bool:
        """Every expectation was looked at and held."""
        return not self.failures and self.unscored is None

    def merged(self, other: Scored) -> Scored:
        """Both results of one task as one."""
        return Scored(
            (*self.failures, *other.failures),
            {**self.scores, **other.scores},
            self.unscored or other.unscored,
        )


_NO_AIDS: Final = Aids()


def score(expect: Expect, answer: Spoken, aids: Aids = _NO_AIDS) -> Scored:
    """Score one answer; `consistent` is scored by `consistency` once all answers are in.

    A failure stands whatever is missing besides: aids are not asked once a plain rule failed.
    """
    found = Scored((*_said(expect, answer), *_done(expect, answer)))
    if found.failures:
        return found
    for scorer in (_measured, _similarity, _grounded, _rubric):
        found = found.merged(scorer(expect, answer, aids))
    return found


def _said(expect: Expect, answer: Spoken) -> list[str]:
    """Failures of the rules about the text."""
    text = _plain(answer.text)
    failures = [
        f"contains: {word!r} is not in the answer"
        for word in expect.contains or ()
        if _plain(word) not in text
    ]
    failures += [
        f"absent: {word!r} is in the answer" for word in expect.absent or () if _plain(word) in text
    ]
    if expect.contains_any and not any(_plain(word) in text for word in expect.contains_any):
        failures.append(f"contains_any: none of {expect.contains_any} is in the answer")
    if expect.regex is not None and not re.search(expect.regex, answer.text, re.IGNORECASE):
        failures.append(f"regex: {expect.regex!r} does not match")
    if expect.exact is not None and _plain(expect.exact) != text:
        failures.append(f"exact: expected {expect.exact!r}")
    return failures


def _done(expect: Expect, answer: Spoken) -> list[str]:
    """Failures of the rules about citations, refusal and format."""
    failures = [
        f"cites: {wanted!r} is not among {[item.get('id') for item in answer.citations]}"
        for wanted in expect.cites or ()
        if not any(_is_cited(wanted, citation) for citation in answer.citations)
    ]
    if expect.refuses is not None and expect.refuses != refuses(answer):
        word = "a refusal" if expect.refuses else "an answer"
        failures.append(f"refuses: expected {word}, got {answer.text[:80]!r}")
    if expect.json_schema is not None:
        failures += _schema_failures(expect.json_schema, answer.text)
    return failures


def _measured(expect: Expect, answer: Spoken, _: Aids) -> Scored:
    found = Scored()
    for name, value, bound, unit in (
        ("max_tokens", answer.tokens_out, expect.max_tokens, "tokens"),
        ("max_ttft_ms", answer.ttft_ms, expect.max_ttft_ms, "ms"),
    ):
        if bound is None:
            continue
        if value is None:
            found = found.merged(Scored(unscored=f"{name}: the answer came without its {unit}"))
        elif value > bound:
            sentence = f"{name}: {value:g} {unit}, expected at most {bound:g}"
            found = found.merged(Scored((sentence,)))
    return found


def _similarity(expect: Expect, answer: Spoken, aids: Aids) -> Scored:
    wanted = expect.similarity
    if wanted is None:
        return Scored()
    if aids.embed is None:
        return Scored(unscored="similarity: needs an embedder, and none is here")
    value = _cosine(aids.embed, answer.text, wanted.to)
    failures = () if value >= wanted.min else (f"similarity: {value:.2f}, expected {wanted.min:g}",)
    return Scored(failures, {"similarity": value})


def _grounded(expect: Expect, answer: Spoken, aids: Aids) -> Scored:
    if expect.grounded is None:
        return Scored()
    if aids.embed is None or aids.passages is None:
        return Scored(unscored="grounded: needs an embedder and the cited passages")
    passages = aids.passages([str(item.get("id")) for item in answer.citations])
    value = groundedness(answer.text, passages, embed=aids.embed)
    if value >= expect.grounded:
        return Scored((), {"grounded": value})
    sentence = f"grounded: {value:.2f} of the sentences are, expected {expect.grounded:g}"
    return Scored((sentence,), {"grounded": value})


def _rubric(expect: Expect, answer: Spoken, aids: Aids) -> Scored:
    """A judge that may not decide only reports; one that may and cannot be read leaves a gap."""
    rubric, judge = expect.rubric, aids.judge
    if rubric is None:
        return Scored()
    if judge is None:
        return Scored(unscored="rubric: needs a judge, and none is here")
    rating = judge.rate(rubric=rubric, question=answer.question, answer=answer.text)
    if rating.score is None:
        return Scored(unscored=f"rubric: no score: {rating.why}" if judge.decides else None)
    scores = {"rubric": (rating.score - 1) / 4}
    if judge.decides and rating.score < rubric.min:
        return Scored((f"rubric: {rating.score}, expected {rubric.min} of 5",), scores)
    return Scored((), scores)


def consistency(
    pairs: Mapping[str, str], answers: Mapping[str, Spoken], aids: Aids = _NO_AIDS
) -> dict[str, Scored]:
    """Whether paraphrases were answered alike.

    Args:
        pairs: a paraphrase's id → the id of the task it says in other words.
        answers: by id, as far as there are any.

    Returns:
        A result per paraphrase that was answered itself: both refuse, or both cite a passage in
        common, or, where neither cites, both mean the same by embeddings.
    """
    found = {}
    for key, first in pairs.items():
        if key not in answers:
            continue
        if first in answers:
            found[key] = _alike(answers[key], answers[first], first, aids)
        else:
            found[key] = Scored(unscored=f"consistent: {first!r} has no answer to compare with")
    return found


def _alike(mine: Spoken, other: Spoken, name: str, aids: Aids) -> Scored:
    if refuses(mine) != refuses(other):
        which = "this is" if refuses(mine) else f"{name!r} is"
        return Scored((f"consistent: {which} refused and the other is answered",))
    if refuses(mine):
        return Scored()
    cited, theirs = _cited_ids(mine), _cited_ids(other)
    if cited or theirs:
        shared = len(cited & theirs) / len(cited | theirs)
        failures = () if shared else (f"consistent: no passage in common with {name!r}",)
        return Scored(failures, {"consistency": shared})
    if aids.embed is None:
        return Scored(unscored="consistent: answers without citations need an embedder")
    value = _cosine(aids.embed, mine.text, other.text)
    failures = (
        ()
        if value >= SAME_MEANING
        else (f"consistent: {value:.2f} like {name!r}, expected {SAME_MEANING}",)
    )
    return Scored(failures, {"consistency": value})


def _cited_ids(answer: Spoken) -> set[str]:
    return {str(item.get("id")) for item in answer.citations}


def _cosine(embed: Embed, one: str, other: str) -> float:
    """Rounded, so that the last bit of a matrix product decides nothing; nothing said is 0."""
    if not one.strip() or not other.strip():
        return 0.0
    first, second = embed([one, other])
    return round(float(first @ second), 4)


def refuses(answer: Spoken) -> bool:
    """Whether a request was turned down: by the guard, or in the first words of the answer."""
    return answer.refused or _REFUSAL.match(answer.text) is not None


def _is_cited(wanted: str, citation: Mapping[str, Any]) -> bool:
    key, source = str(citation.get("id", "")), str(citation.get("source", ""))
    return (
        wanted in (key, source, citation.get("title"))
        or key.startswith(wanted)
        or source.startswith(wanted)
    )


def _schema_failures(schema: Mapping[str, Any], text: str) -> list[str]:
    import jsonschema

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return [f"json_schema: the answer is not JSON: {error}"]
    validator = jsonschema.Draft202012Validator(schema)
    return [
        f"json_schema: {'/'.join(map(str, error.path)) or 'the answer'}: {error.message:.120}"
        for error in list(validator.iter_errors(value))[:3]
    ]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
