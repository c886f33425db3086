"""The engine's tokens, counted with its own `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from proa.errors import InvalidInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ELLIPSIS = " … "


class EngineTokens:
    """Counts and cuts text in an engine's tokens. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.special: tuple[str, ...] = tuple(
            sorted(
                token.content
                for token in tokenizer.get_added_tokens_decoder().values()
                if token.special
            )
        )
        """The tokens that structure a prompt, such as `<|im_start|>`."""

    @classmethod
    def load(cls, path: Path) -> EngineTokens:
        """Read a `tokenizer.json`.

        Raises:
            InvalidInput: no such file, or not a tokenizer.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise InvalidInput(f"{path} is not a tokenizer.json: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer)

    def count(self, text: str) -> int:
        """Tokens of a text, without those a chat template adds."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def cut(self, text: str, limit: int, *, keep: Literal["head", "both"] = "head") -> str:
        """A text of at most `limit` tokens.

        Args:
            text: what to cut.
            limit: tokens at most.
            keep: `head` keeps the beginning; `both` also the end, with `…` between.
        """
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        if len(offsets) <= limit:
            return text
        kept = limit
        while kept > 0:
            shorter = _shorten(text, offsets, kept, keep)
            # A word that is cut may make more tokens than it had inside its text.
            over = self.count(shorter) - limit
            if over <= 0:
                return shorter
            kept -= max(1, over)
        return ""


def _shorten(
    text: str, offsets: list[tuple[int, int]], kept: int, keep: Literal["head", "both"]
) -> str:
    if keep == "head" or kept < 8:
        return text[: offsets[kept - 1][1]].rstrip()
    half = kept // 2
    head = text[: offsets[half - 1][1]].rstrip()
    return f"{head}{_ELLIPSIS}{text[offsets[len(offsets) - half][0] :].lstrip()}"
