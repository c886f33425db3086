"""What the engine reads is packed here: each part within its own budget, what was cut is said.

The parts are the system prompt (the template without its slot), the retrieved passages, earlier
messages and the question. A long part never takes another's room, so a pasted file cannot push the
instructions or the passages out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from proa.errors import InvalidInput
from proa.release.canonical import digest_json
from proa.release.manifest import ContextBudget
from proa.retrieval.search import Hit

SLOT: Final = "{context}"
SLOT_MISSING: Final = "context slot missing"
SMALLEST_PASSAGE: Final = 24
"""Tokens below which a cut passage is left out: a stump says nothing and may mislead."""
_ROLES: Final = ("user", "assistant")


class Tokens(Protocol):
    """The engine's tokens: `proa.retrieval.tokens.EngineTokens`."""

    @property
    def special(self) -> tuple[str, ...]: ...

    def count(self, text: str) -> int: ...

    def cut(self, text: str, limit: int, *, keep: Literal["head", "both"] = "head") -> str: ...


@dataclass(frozen=True, slots=True)
class Template:
    """A system prompt, with or without the slot `{context}`; other braces are plain text."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Template:
        """Check a template.

        Raises:
            InvalidInput: it is empty or holds the slot twice.
        """
        if not text.strip():
            raise InvalidInput("prompt: expected a text, got an empty one", param="prompt")
        if text.count(SLOT) > 1:
            raise InvalidInput(
                f"prompt: {SLOT} stands {text.count(SLOT)} times, expected once", param="prompt"
            )
        return cls(text.strip())

    @property
    def has_slot(self) -> bool:
        """Whether retrieved passages have a place."""
        return SLOT in self.text

    def fill(self, context: str) -> str:
        """The text with `context` in its slot."""
        return self.text.replace(SLOT, context)


@dataclass(frozen=True, slots=True)
class Cut:
    """A part that was shortened or left out; `kept` and `of` are tokens."""

    part: Literal["retrieved", "history", "question"]
    kept: int
    of: int
    id: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """As it stands in an answer."""
        wire: dict[str, Any] = {"part": self.part, "kept": self.kept, "of": self.of}
        return wire if self.id is None else {**wire, "id": self.id}


@dataclass(frozen=True, slots=True)
class Packed:
    """What is sent to the engine, and what is known about it.

    Attributes:
        messages: the chat, ready to be sent.
        used: the passages that stand in it, best first; nothing else may be cited.
        tokens: of each part: system, retrieved, history, question.
        cut: what did not fit.
        problems: of the template.
    """

    messages: list[dict[str, str]]
    used: tuple[Hit, ...]
    tokens: Mapping[str, int]
    cut: tuple[Cut, ...] = ()
    problems: tuple[str, ...] = field(default=())

    @property
    def digest(self) -> str:
        """`sha256:` and hex of the messages."""
        return digest_json(self.messages)

    def to_wire(self) -> dict[str, Any]:
        """As it stands in an answer: tokens per part, what was cut, problems if any."""
        wire: dict[str, Any] = {**self.tokens, "cut": [cut.to_wire() for cut in self.cut]}
        return {**wire, "problems": list(self.problems)} if self.problems else wire


class Packer:
    """Packs questions for one release."""

    def __init__(self, template: Template, budget: ContextBudget, tokens: Tokens) -> None:
        """Check that the template fits its budget.

        Raises:
            InvalidInput: the template alone takes more than `budget.system` tokens.
        """
        self._template = template
        self._budget = budget
        self._tokens = tokens
        self._system = tokens.count(template.fill(""))
        self.problems = () if template.has_slot else (SLOT_MISSING,)
        if self._system > budget.system:
            raise InvalidInput(
                f"prompt: takes {self._system} tokens, context.system allows {budget.system}",
                param="context.system",
            )

    def pack(
        self,
        question: str,
        *,
        hits: Sequence[Hit] = (),
        history: Sequence[Mapping[str, str]] = (),
    ) -> Packed:
        """Pack one question.

        Args:
            question: the last message of the user.
            hits: passages, best first; used only when the template has its slot.
            history: earlier messages, oldest first; those of other roles are left out.
        """
        cut: list[Cut] = []
        block, used = self._retrieved(hits if self._template.has_slot else (), cut)
        earlier, earlier_tokens = self._history(history, cut)
        asked = self._question(question, cut)
        messages = [
            {"role": "system", "content": self._template.fill(block)},
            *earlier,
            {"role": "user", "content": asked},
        ]
        tokens = {
            "system": self._system,
            "retrieved": self._tokens.count(block),
            "history": earlier_tokens,
            "question": self._tokens.count(asked),
        }
        return Packed(messages, used, tokens, tuple(cut), self.problems)

    def _retrieved(self, hits: Sequence[Hit], cut: list[Cut]) -> tuple[str, tuple[Hit, ...]]:
        """Passages, worse ones above better ones; the first without room is cut, the rest left."""
        block, full = "", False
        used: list[Hit] = []
        for hit in hits:
            text = disarm(_passage(hit, len(used) + 1), self._tokens.special)
            whole = self._tokens.count(text)
            room = self._budget.retrieved - self._tokens.count(block)
            kept = "" if full else self._fitting(block, text, min(room, whole))
            if kept != text:
                full = True
                size = self._tokens.count(kept)
                cut.append(Cut("retrieved", size, whole, hit.id))
            if kept:
                block = _joined(block, kept)
                used.append(hit)
        return block, tuple(used)

    def _fitting(self, block: str, text: str, room: int) -> str:
        """As much of `text` as fits above `block`; empty when that is not worth it."""
        kept = text
        while self._tokens.count(_joined(block, kept)) > self._budget.retrieved:
            if room < SMALLEST_PASSAGE:
                return ""
            kept = self._tokens.cut(text, room)
            room -= 1
        return kept

    def _history(
        self, history: Sequence[Mapping[str, str]], cut: list[Cut]
    ) -> tuple[list[dict[str, str]], int]:
        """The newest messages that fit whole; a conversation starts with a user's message."""
        spoken = [
            {"role": message["role"], "content": disarm(message["content"], self._tokens.special)}
            for message in history
            if message.get("role") in _ROLES
        ]
        sizes = [self._tokens.count(message["content"]) for message in spoken]
        first, total = len(spoken), 0
        while first > 0 and total + sizes[first - 1] <= self._budget.history:
            first -= 1
            total += sizes[first]
        while first < len(spoken) and spoken[first]["role"] != "user":
            total -= sizes[first]
            first += 1
        if first:
            cut.append(Cut("history", total, sum(sizes)))
        return spoken[first:], total

    def _question(self, question: str, cut: list[Cut]) -> str:
        asked = disarm(question, self._tokens.special)
        whole = self._tokens.count(asked)
        if whole <= self._budget.question:
            return asked
        kept = self._tokens.cut(asked, self._budget.question, keep="both")
        cut.append(Cut("question", self._tokens.count(kept), whole))
        return kept


def disarm(text: str, special: Sequence[str]) -> str:
    """Break an engine's control tokens inside a text, so that it cannot open a turn of its own.

    The engine reads one string in the end: `<|im_end|>` typed by a user would end the user's turn.
    """
    for token in special:
        if token in text:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text


def _passage(hit: Hit, number: int) -> str:
    name = f"{hit.title}: {hit.heading}" if hit.heading else hit.title
    return f"[{number}] {name}\n{hit.text}"


def _joined(block: str, text: str) -> str:
    # The best passage stands last, next to the question: small models read that place best.
    return f"{text}\n\n{block}" if block else text
