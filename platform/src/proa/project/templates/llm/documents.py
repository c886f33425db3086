"""The documents: every Markdown file in `documents/`. Replace it by whatever holds your texts."""

from __future__ import annotations

from pathlib import Path

from proa.retrieval.chunks import Document

FOLDER = Path(__file__).parent / "documents"


def load() -> list[Document]:
    """Named in proa.yaml: the whole corpus, each document with a stable id and its source."""
    found = []
    for path in sorted(FOLDER.glob("*.md")):
        heading, _, text = path.read_text(encoding="utf-8").partition("\n")
        found.append(Document(path.stem, heading.strip("# "), text.strip(), f"pages/{path.name}"))
    return found
