"""Prompt injection, direct and indirect, by rules over text in normal form.

The same rules run over the text, over its leetspeak reading, over letters that were spaced out
and over what base64 and hex in it decode to.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

from proa.guard.normal import normalise

Span = tuple[int, int]


def _any(words: str, *more: str) -> str:
    """One of the words, or of the patterns `more`, as whole words."""
    return rf"\b(?:{'|'.join((*words.split(), *more))})\b"


def _near(distance: int) -> str:
    """Up to `distance` characters of the same sentence."""
    return rf"[^.!?\n]{{0,{distance}}}?"


_AI: Final = _any("ais? assistants? llms? chatbots? models?", "language models?")
_ORDERS: Final = _any(
    "instructions? rules? prompts? directions? guidelines? directives? constraints?"
    " restrictions? guardrails? safeguards? programming"
)
_HIDDEN: Final = r"(?:initial|hidden|secret|original|system|full|exact)"
_PATTERNS: Final = (
    # Throw away what you were told.
    _any("ignore disregard forget override bypass discard neglect skip")
    + _near(40)
    + _any(
        "previous prior above earlier preceding foregoing initial original system your my these"
        " those all any"
    )
    + _near(24)
    + _ORDERS,
    # Tell what you were told.
    _any("reveal show print repeat output display leak disclose tell give recite", "write out")
    + _near(60)
    + _any(
        "",
        "system prompt",
        rf"(?:your|the) {_HIDDEN}[a-z ]{{0,20}} ?(?:prompt|instructions?|rules?|message)",
        "your (?:prompt|instructions)",
    ),
    (
        r"\b(?:everything|all (?:the )?text|the (?:text|words)) (?:that is |written )?"
        r"(?:above|before) this (?:line|message|prompt|point)\b"
    ),
    rf"\bwhat (?:is|are|was|were) your {_HIDDEN} (?:prompt|instructions?|rules)\b",
    # Be somebody else.
    _any("act behave respond roleplay you're", "you are", "pretend (?:to be|you are)")
    + _near(40)
    + _any(
        "dan jailbroken unrestricted unfiltered uncensored",
        "without (?:any )?(?:restrictions|rules|limits|filters|guidelines)",
        "no longer bound",
    ),
    r"\bdo anything now\b",
    _any("enable enter activate", "switch to")
    + _near(12)
    + _any("developer debug god dan admin jailbreak")
    + r" mode\b",
    r"\bfrom now on,? (?:you|the assistant|always|only|respond|answer|reply|ignore)\b",
    # Speak as the system: control tokens of chat templates, forged headings.
    r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|?>",
    r"\[/?inst\]|<</?sys>>|</?(?:system|instructions?)>",
    r"(?:^|\n)\s{0,8}(?:#{1,4} ?)?(?:system(?: prompt| message)?|new instructions?) ?: ?\S",
    r"\b(?:end of (?:the )?(?:context|documents?|passages?|prompt)"
    r"|begin(?:ning of)? (?:the )?(?:new|real) (?:instructions?|prompt))\b[^\n]{0,80}?"
    + _any("you now instructions? answer reply say"),
    # Speak from a document to whoever reads it.
    _AI + _near(24) + r"\b(?:reading|processing|parsing|summari[sz]ing|that reads?) this\b",
    r"\b(?:note|message|instructions?|attention|important) (?:to|for) (?:the |any )?" + _AI,
    r"\b(?:do not|don't|never) (?:tell|inform|mention|reveal)\b" + _near(30) + r"\bthe user\b",
    # Nobody who asks speaks of himself as the user.
    _any("ignore disregard forget override")
    + r" (?:the |this |what the )?users?(?:'s|s')? (?:question|request|query|wish(?:es)?|asks?)\b",
    # Carry data out in the address of a picture.
    r"!\[[^\]\n]{0,80}\]\(https?://[^)\s]{1,300}[?&][^)\s=]{1,40}=",
)
_RULES: Final = tuple(re.compile(pattern) for pattern in _PATTERNS)
_SPACED: Final = re.compile(r"(?<!\w)(?:\w[ ._*-]{1,3}){5,400}\w(?!\w)")
_SQUASHED: Final = re.compile(
    r"(?:ignore|disregard|forget|bypass)(?:all|any|the|your|my|of)*(?:previous|prior|above|earlier"
    r"|system)?(?:instructions?|rules|prompts?)|(?:reveal|show|print)(?:me)?(?:your|the)?systemprompt"
)
_LEET: Final = str.maketrans("013457@$!|", "oieastasii")
_BASE64: Final = re.compile(
    r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{24,4000}={0,2}(?![A-Za-z0-9+/=])"
)
_HEX: Final = re.compile(r"(?<![0-9a-fA-F])(?:[0-9a-fA-F]{2}){16,2000}(?![0-9a-fA-F])")


def injections(text: str, original: str | None = None) -> Iterator[Span]:
    """Spans of `text` (normal form) that try to give orders.

    Args:
        text: the text in normal form.
        original: the text as written, in which base64 still has its case; only when both have
            one length do encoded orders have a place.
    """
    found = False
    for rule in _RULES:
        for match in rule.finditer(text):
            found = True
            yield match.span()
    if found:
        return
    leet = text.translate(_LEET)
    if leet != text:
        for rule in _RULES[:6]:
            for match in rule.finditer(leet):
                yield match.span()
    for match in _SPACED.finditer(text):
        squashed = re.sub(r"[ ._*-]", "", match[0]).translate(_LEET)
        if _SQUASHED.search(squashed):
            yield match.span()
    if original is not None:
        yield from _encoded(text, original)


def _encoded(text: str, original: str) -> Iterator[Span]:
    same = len(text) == len(original)
    for pattern, decode in ((_HEX, _from_hex), (_BASE64, _from_base64)):
        for match in pattern.finditer(original):
            decoded = decode(match[0])
            if decoded is not None and any(True for _ in injections(normalise(decoded).text)):
                yield match.span() if same else (0, len(text))


def _from_hex(text: str) -> str | None:
    return _printable(bytes.fromhex(text))


def _from_base64(text: str) -> str | None:
    body = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _printable(base64.b64decode(body + "=" * (-len(body) % 4), validate=True))
    except (binascii.Error, ValueError):
        return None


def _printable(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() or "\n" in text else None
