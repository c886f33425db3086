"""Scorers of golden tasks: pure rules from an answer to the expectations that did not hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Strings = list[str]
_REFUSAL = re.compile(
    r"^\W*(?:sorry|i'?m sorry|i am sorry|i apologi[sz]e|unfortunately)?\W*"
    r"(?:but )?(?:i (?:cannot|can ?not|can't|am unable|am not able|do not know|don't know|will not"
    r"|won't|only answer|can only)|as an ai)",
    re.IGNORECASE,
)


class Expect(BaseModel):
    """What an answer must be like; at least one key.

    `contains` all of, `contains_any` one of, `absent` none of (all ignoring case and runs of white
    space); `regex` is searched, ignoring case; `exact` is the whole answer; `cites`: each entry is
    a citation's id, source or title, or the start of its id or source; `refuses`: whether the
    request is turned down; `json_schema`: the answer is JSON that the schema allows.
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
    """An answer as a scorer sees it: the model's own text, without the list of sources."""

    text: str
    citations: Sequence[Mapping[str, Any]] = ()
    refused: bool = False


def score(expect: Expect, answer: Spoken) -> list[str]:
    """The expectations that did not hold, one sentence each; empty when the task passed."""
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
    failures += [
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
