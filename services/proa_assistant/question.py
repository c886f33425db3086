"""What a client asked, in OpenAI's chat format, read strictly: nothing is ignored in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proa.errors import InvalidInput, NotFound

__all__ = ["Limits", "Question", "read_question"]

_PINNED: Final = frozenset(
    {
        "temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "min_p", "logit_bias",
    }
)  # fmt: skip
"""Settings which the release decides: taken from clients that always send them, not followed."""
_HARMLESS: Final = frozenset({"user", "metadata", "store", "stream_options", "service_tier"})
_LIMIT_KEYS: Final = ("max_completion_tokens", "max_tokens")
_KNOWN: Final = _PINNED | _HARMLESS | {"model", "messages", "stream", "n", *_LIMIT_KEYS}
_ROLES: Final = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest conversation that is read: messages, and characters of all of them."""

    messages: int = 64
    characters: int = 65_536


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation whose last message is the user's, and how to answer it.

    Attributes:
        messages: `{"role", "content"}`, content always one text.
        max_tokens: what the client allows, or None.
        ignored: settings the client sent that the release decides.
    """

    messages: tuple[Mapping[str, str], ...]
    stream: bool
    max_tokens: int | None
    ignored: tuple[str, ...]

    @property
    def text(self) -> str:
        """The last message."""
        return self.messages[-1]["content"]


def read_question(body: Mapping[str, Any], *, model: str, limits: Limits) -> Question:
    """Check a chat request.

    Args:
        body: the decoded JSON object.
        model: the name of the model served here.

    Raises:
        InvalidInput: names the key, its value and what was expected.
        NotFound: another model was asked for.
    """
    for key in body:
        if key not in _KNOWN:
            raise InvalidInput(
                f"{key}: not supported here; expected messages, model, stream, max_tokens, user",
                param=key,
                code="unsupported_parameter",
            )
    asked = body.get("model", model)
    if asked != model:
        raise NotFound(
            f"model = {asked!r}: this assistant serves {model!r}", param="model",
            code="unknown_model",
        )  # fmt: skip
    if body.get("n", 1) not in (1, None):
        raise InvalidInput(f"n = {body['n']!r}: expected 1", param="n")
    stream = body.get("stream")
    if stream not in (True, False, None):
        raise InvalidInput(f"stream = {stream!r}: expected true or false", param="stream")
    return Question(
        messages=_messages(body.get("messages"), limits),
        stream=stream is True,
        max_tokens=_max_tokens(body),
        ignored=tuple(sorted(key for key in _PINNED if body.get(key) is not None)),
    )


def _messages(value: Any, limits: Limits) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise InvalidInput(
            f"messages = {value!r:.60}: expected a list of messages", param="messages"
        )
    if len(value) > limits.messages:
        raise InvalidInput(
            f"messages: {len(value)} of them, at most {limits.messages} are allowed",
            param="messages",
            code="too_many_messages",
        )
    messages = tuple(_message(item, f"messages.{index}") for index, item in enumerate(value))
    size = sum(len(message["content"]) for message in messages)
    if size > limits.characters:
        raise InvalidInput(
            f"messages: {size:,} characters, at most {limits.characters:,} are allowed",
            param="messages",
            code="prompt_too_large",
        )
    last = messages[-1]
    if last["role"] != "user":
        raise InvalidInput(
            f"messages.{len(messages) - 1}.role = {last['role']!r}: expected the last message to "
            "be the user's",
            param=f"messages.{len(messages) - 1}.role",
        )
    if not last["content"].strip():
        key = f"messages.{len(messages) - 1}.content"
        raise InvalidInput(f"{key} is empty: expected a question", param=key)
    return messages


def _message(item: Any, key: str) -> dict[str, str]:
    if not isinstance(item, Mapping):
        raise InvalidInput(f"{key} = {item!r:.60}: expected a message", param=key)
    role = item.get("role")
    if role in ("system", "developer"):
        raise InvalidInput(
            f"{key}.role = {role!r}: the release brings its own instructions; expected user or "
            "assistant",
            param=f"{key}.role",
        )
    if role not in _ROLES:
        raise InvalidInput(
            f"{key}.role = {role!r:.60}: expected user or assistant", param=f"{key}.role"
        )
    return {"role": str(role), "content": _text(item.get("content"), f"{key}.content")}


def _text(content: Any, key: str) -> str:
    """A message's text, also from OpenAI's list of text parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and content:
        parts = []
        for index, part in enumerate(content):
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind != "text" or not isinstance(part.get("text"), str):
                raise InvalidInput(
                    f"{key}.{index}: type = {kind!r}: expected text", param=f"{key}.{index}"
                )
            parts.append(part["text"])
        return "\n".join(parts)
    raise InvalidInput(f"{key} = {content!r:.60}: expected a text", param=key)


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    for key in _LIMIT_KEYS:
        value = body.get(key)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{key} = {value!r}: expected a number from 1", param=key)
            return value
    return None
