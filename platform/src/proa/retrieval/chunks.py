"""Documents are cut into chunks: spans of the text below one heading, within a token budget.

A chunk is a span of its document (nothing is rewritten, so nothing can be lost), and what is
embedded is the span below its title and headings. Ids hold the content's hash: a citation of text
that changed no longer resolves to other text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from proa.errors import InvalidInput

CountTokens = Callable[[Sequence[str]], list[int]]
"""Tokens of each text. Parts cut at white space must together have at least the whole's tokens."""

_UNDERLINE = re.compile(r"([=\-~*^\"'`#+:.])\1{2,}[ \t]*")
_MARKDOWN = re.compile(r"(#{1,6})[ \t]+(\S.*?)[ \t]*#*[ \t]*")
_WORD = re.compile(r"\S+\s*")
_FENCE = re.compile(r"[ \t]*(```|~~~)")
_HEADING_SHARE = 3
"""Headings may take one third of a chunk's budget."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.

    Attributes:
        id: stable name, unique in the corpus, without `#` and white space.
        title: what people read in a citation.
        text: plain text; headings are underlined (reStructuredText) or start with `#` (Markdown).
        source: where people find it: a URL, a path, a section's name.
        updated: when it was last changed, RFC 3339 in UTC; empty when nobody knows.
    """

    id: str
    title: str
    text: str
    source: str
    updated: str = ""

    @property
    def digest(self) -> str:
        """`sha256:` and hex over every field that is not empty by default."""
        more = (self.updated,) if self.updated else ()
        return _digest(self.id, self.title, self.text, self.source, *more)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document.

    Attributes:
        id: `document#ordinal:hash8`.
        document: the document's id.
        ordinal: the chunk's number in its document, from 0.
        title: the document's title.
        heading: the headings above it, `A > B`, or empty.
        text: the span.
        source: the document's source.
        digest: `sha256:` and hex over `embedded`; equal digests have equal embeddings.
    """

    id: str
    document: str
    ordinal: int
    title: str
    heading: str
    text: str
    source: str
    digest: str

    @property
    def embedded(self) -> str:
        """The text that is embedded and searched: title, headings, span."""
        return _embedded(self.title, self.heading, self.text)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a text below one heading: `text[start:end]`, without the heading's own lines.

    `lead` is where the headings begin that stand above it with no text between.
    """

    path: tuple[str, ...]
    lead: int
    start: int
    end: int


def chunk_document(
    document: Document, *, max_tokens: int, overlap: int, count: CountTokens
) -> list[Chunk]:
    """Cut a document.

    Args:
        document: what to cut.
        max_tokens: budget of `Chunk.embedded`.
        overlap: tokens, at most, that a chunk repeats from the one before it in its section.
        count: counts tokens; see `CountTokens`.

    Returns:
        Chunks in the text's order. Every word of the text is in a chunk's text or heading.

    Raises:
        InvalidInput: a budget out of range, or an id that cannot be cited.
    """
    _check(document, max_tokens, overlap)
    chunks: list[Chunk] = []
    for section in sections(document.text):
        heading, whole = _fit_heading(document.title, section.path, max_tokens, count)
        if not whole:
            section = replace(section, start=section.lead)
        room = max_tokens - count([_embedded(document.title, heading, "")])[0]
        if room < 1:
            raise InvalidInput(
                f"document {document.id}: its title alone takes {max_tokens - room} tokens, "
                f"max_tokens is {max_tokens}",
                param="chunking.max_tokens",
            )
        for start, end in _pack(document.text, section, room, min(overlap, room - 1), count):
            chunks.append(_chunk(document, len(chunks), heading, document.text[start:end]))
    return chunks


def chunk_documents(
    documents: Sequence[Document], *, max_tokens: int, overlap: int, count: CountTokens
) -> list[Chunk]:
    """Cut every document, in order.

    Raises:
        InvalidInput: two documents have one id; also what `chunk_document` raises.
    """
    seen: set[str] = set()
    chunks: list[Chunk] = []
    for document in documents:
        if document.id in seen:
            raise InvalidInput(f"documents: the id {document.id!r} is given twice", param="id")
        seen.add(document.id)
        chunks += chunk_document(document, max_tokens=max_tokens, overlap=overlap, count=count)
    return chunks


def sections(text: str) -> list[Section]:
    """The sections of a text, in order. A heading with nothing below it keeps its own line.

    Underlined headings get their level as in reStructuredText: by the order in which the
    underlines' characters first appear. Fenced blocks hold no headings.
    """
    lines = _lines(text)
    found: list[Section] = []
    path: list[tuple[int, str]] = []
    marks: list[str] = []
    body, lead, own, number, fenced = 0, 0, 0, 0, False
    while number < len(lines):
        start, end = lines[number]
        heading = None if fenced else _heading(text, lines, number, marks)
        fenced ^= _FENCE.match(text, start, end) is not None
        if heading is None:
            number += 1
            continue
        level, title, taken = heading
        closed = _close(text, path, (lead, own, body, start), level)
        if closed is not None:
            found.append(closed)
        if closed is not None or not path:
            lead = start
        path = [*(item for item in path if item[0] < level), (level, title)]
        number += taken
        own, body = start, lines[number][0] if number < len(lines) else len(text)
    closed = _close(text, path, (lead, own, body, len(text)), 0)
    return found if closed is None else [*found, closed]


def _close(
    text: str,
    path: Sequence[tuple[int, str]],
    places: tuple[int, int, int, int],
    next_level: int,
) -> Section | None:
    """The section that ends here; `places`: its lead, own heading, body and end."""
    lead, own, body, end = places
    names = tuple(name for _, name in path)
    if text[body:end].strip():
        return Section(names, lead, body, end)
    # An empty section's heading lives on in its children; without any, as a text of its own.
    childless = bool(path) and path[-1][0] >= next_level
    return Section(names[:-1], lead, own, end) if childless else None


def _heading(
    text: str, lines: Sequence[tuple[int, int]], number: int, marks: list[str]
) -> tuple[int, str, int] | None:
    """Level, title and number of lines of the heading that starts at line `number`."""
    line = text[slice(*lines[number])].rstrip()
    if match := _MARKDOWN.fullmatch(line):
        return len(match[1]), match[2], 1
    if not line or line[0].isspace() or number + 1 >= len(lines) or _UNDERLINE.fullmatch(line):
        return None
    below = text[slice(*lines[number + 1])].rstrip()
    match = _UNDERLINE.fullmatch(below)
    if match is None or len(below) < min(len(line), 4):
        return None
    if match[1] not in marks:
        marks.append(match[1])
    return marks.index(match[1]) + 1, line.strip(), 2


def _pack(
    text: str, section: Section, room: int, overlap: int, count: CountTokens
) -> Iterator[tuple[int, int]]:
    """Spans of a section within `room` tokens, broken at blank lines where that wastes little."""
    pieces = list(_pieces(text, section, room, count))
    if not pieces:
        return
    totals = list(accumulate((tokens for _, _, tokens in pieces), initial=0))
    first, before = 0, 0
    while True:
        last = first + 1
        while last < len(pieces) and totals[last + 1] - totals[first] <= room:
            last += 1
        if last < len(pieces):
            last = _at_blank(text, pieces, totals, first, max(first, before), last)
        yield _trim(text, pieces[first][0], pieces[last - 1][1])
        if last == len(pieces):
            return
        following = last
        while following - 1 > first and totals[last] - totals[following - 1] <= overlap:
            following -= 1
        # The repeated part must leave room for something new.
        while following < last and totals[last + 1] - totals[following] > room:
            following += 1
        first, before = following, last


def _at_blank(
    text: str,
    pieces: Sequence[tuple[int, int, int]],
    totals: Sequence[int],
    first: int,
    after: int,
    last: int,
) -> int:
    """The last blank line in the second half of `first:last` and after piece `after`."""
    half = (totals[last] - totals[first]) / 2
    for end in range(last, after, -1):
        if totals[end] - totals[first] < half:
            break
        if text[pieces[end - 1][0] : pieces[end - 1][1]].count("\n") > 1:
            return end
    return last


def _pieces(
    text: str, section: Section, room: int, count: CountTokens
) -> Iterator[tuple[int, int, int]]:
    """Lines with the blank lines after them; longer ones by words, longer ones by characters."""
    spans: list[tuple[int, int]] = []
    for start, end in _lines(text, section.start, section.end):
        if spans and not text[start:end].strip():
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    spans = [span for span in spans if text[slice(*span)].strip()]
    sizes = count([text[start:end] for start, end in spans])
    for (start, end), size in zip(spans, sizes, strict=True):
        if size <= room:
            yield start, end, size
        else:
            yield from _words(text, start, end, room, count)


def _words(
    text: str, start: int, end: int, room: int, count: CountTokens
) -> Iterator[tuple[int, int, int]]:
    spans = [match.span() for match in _WORD.finditer(text, start, end)]
    sizes = count([text[first:last] for first, last in spans])
    for (first, last), size in zip(spans, sizes, strict=True):
        while size > room and last - first > 1:
            cut = _longest(text, first, last, room, count)
            yield first, cut, count([text[first:cut]])[0]
            first = cut
            size = count([text[first:last]])[0]
        yield first, last, size


def _longest(text: str, start: int, end: int, room: int, count: CountTokens) -> int:
    """The largest cut, at least one character, with `text[start:cut]` within `room` tokens."""
    low, high = start + 1, end
    while low < high:
        middle = (low + high + 1) // 2
        if count([text[start:middle]])[0] <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _fit_heading(
    title: str, path: Sequence[str], max_tokens: int, count: CountTokens
) -> tuple[str, bool]:
    """The innermost headings that fit their share, and whether all did; never the title again."""
    names = [name for name in path if name.casefold() != title.casefold()]
    for first in range(len(names)):
        heading = " > ".join(names[first:])
        if count([_embedded(title, heading, "")])[0] * _HEADING_SHARE <= max_tokens:
            return heading, first == 0
    return "", not names


def _chunk(document: Document, ordinal: int, heading: str, text: str) -> Chunk:
    digest = _digest(_embedded(document.title, heading, text))
    return Chunk(
        id=f"{document.id}#{ordinal}:{digest.removeprefix('sha256:')[:8]}",
        document=document.id,
        ordinal=ordinal,
        title=document.title,
        heading=heading,
        text=text,
        source=document.source,
        digest=digest,
    )


def _embedded(title: str, heading: str, text: str) -> str:
    return f"{title} > {heading}\n{text}" if heading else f"{title}\n{text}"


def _lines(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    end = len(text) if end is None else end
    spans = []
    while start < end:
        newline = text.find("\n", start, end)
        stop = end if newline < 0 else newline + 1
        spans.append((start, stop))
        start = stop
    return spans


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space at the end; indentation at the start stays."""
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _digest(*parts: str) -> str:
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode()
        sha.update(len(data).to_bytes(8, "big") + data)
    return f"sha256:{sha.hexdigest()}"


def _check(document: Document, max_tokens: int, overlap: int) -> None:
    if max_tokens < 1 or not 0 <= overlap < max_tokens:
        raise InvalidInput(
            f"chunking: max_tokens = {max_tokens}, overlap = {overlap}: "
            "expected 0 <= overlap < max_tokens",
            param="chunking",
        )
    try:
        f"{document.id}{document.title}{document.text}{document.source}".encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"document {document.id!r} is not valid Unicode: {error.reason} at {error.start}"
        ) from error
    if not document.id or re.search(r"[#\s]", document.id):
        raise InvalidInput(
            f"document id {document.id!r}: expected no '#', no white space, not empty", param="id"
        )
