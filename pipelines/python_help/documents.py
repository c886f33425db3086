"""The corpus: Python's own documentation as every interpreter carries it, so it works offline.

`pydoc_data.topics` is the language reference; docstrings are the library's. Order and text depend
only on the interpreter's version. `notes/` are the project's own pages: a help desk's rules, which
no model can know by heart, contacts with personal data that must not come out, and a forum where
somebody left commands to the assistant.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from proa.retrieval.chunks import Document, sections

MODULES: Final = (
    "base64",
    "bisect",
    "builtins",
    "collections",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "functools",
    "glob",
    "heapq",
    "itertools",
    "json",
    "math",
    "pathlib",
    "random",
    "re",
    "secrets",
    "shutil",
    "string",
    "subprocess",
    "tempfile",
    "textwrap",
    "time",
)
"""Modules of the first release."""

MORE_MODULES: Final = (
    "argparse",
    "calendar",
    "fractions",
    "getpass",
    "graphlib",
    "gzip",
    "hashlib",
    "pprint",
    "queue",
    "sched",
    "shlex",
    "statistics",
    "timeit",
)
"""Modules that a later release adds."""

INTERNALS: Final = frozenset(
    {"attribute-access", "customization", "debugger", "specialnames", "types"}
)
"""Topics for authors of interpreters and debuggers; users of the language do not ask for them."""

SAME_METHODS: Final = frozenset({"bytearray", "bytes", "memoryview"})
"""Classes whose methods are those of `str`, said again."""

NOTES: Final = Path(__file__).parent / "notes"

# Addresses differ from one process to the next.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MARKS: Final = "*=-~"


def load() -> list[Document]:
    """The corpus of the first release: the language reference and 25 modules."""
    return [*topics(), *library(MODULES), *notes(NOTES)]


def load_more() -> list[Document]:
    """The corpus of a good change: 13 more modules."""
    return [*load(), *library(MORE_MODULES)]


def topics() -> list[Document]:
    """The language reference, a document per topic, by name.

    Topics repeat each other (`compound` holds `if`, `for`, `with`, …): a section is kept in the
    smallest topic it stands in.
    """
    from pydoc_data.topics import topics as every

    texts = {name: text for name, text in every.items() if name not in INTERNALS}
    titles = {name: _title(text, name) for name, text in texts.items()}
    # Of two topics with one text, the one that is named in its title stays.
    order = sorted(texts, key=lambda name: (len(texts[name]), name not in titles[name], name))
    seen: set[str] = set()
    kept = {name: text for name in order if (text := _unseen(texts[name], seen))}
    return [
        Document(
            id=f"topic/{name}",
            title=titles[name],
            text=kept[name],
            source=f'help("{name}")',
        )
        for name in sorted(kept)
    ]


def library(modules: tuple[str, ...]) -> list[Document]:
    """A document per module: its docstring, then one section per public class, method, function."""
    return [_module(importlib.import_module(name)) for name in modules]


def notes(folder: Path) -> list[Document]:
    """A document per Markdown file, by name."""
    documents = []
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = text.splitlines()[0].lstrip("# ")
        documents.append(
            Document(id=f"notes/{path.stem}", title=title, text=text, source=f"notes/{path.name}")
        )
    return documents


def _unseen(text: str, seen: set[str]) -> str:
    """The sections of `text` not seen yet, below their headings."""
    parts: list[str] = []
    for section in sections(text):
        body = text[section.start : section.end].strip("\n")
        key = " ".join(body.split())
        if not body or key in seen:
            continue
        seen.add(key)
        parts.append(_headed(section.path, body))
    return "\n\n".join(parts)


def _headed(path: tuple[str, ...], body: str) -> str:
    lines = [
        f"{name}\n{_MARKS[min(level, len(_MARKS) - 1)] * max(4, len(name))}\n"
        for level, name in enumerate(path)
    ]
    return "\n".join([*lines, body])


def _title(text: str, name: str) -> str:
    first = sections(text)[0]
    return first.path[0] if first.path else name


def _module(module: ModuleType) -> Document:
    name = module.__name__
    # Below a heading of its own, so that headings inside the text stay below it.
    parts = [_headed((name,), inspect.getdoc(module) or name)]
    members = dict(_members(module))
    functions = {inspect.getdoc(item) for item in members.values() if inspect.isroutine(item)}
    for member_name, member in members.items():
        heading = member_name if name == "builtins" else f"{name}.{member_name}"
        parts.append(_section(heading, member))
        if inspect.isclass(member) and member_name not in SAME_METHODS:
            parts += [
                _section(f"{heading}.{method_name}", method)
                for method_name, method in _methods(member)
                # random.choice is random.Random.choice: once is enough.
                if inspect.getdoc(method) not in functions
            ]
    return Document(id=f"lib/{name}", title=name, text="\n\n".join(parts), source=f'help("{name}")')


def _members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Documented public classes and functions, by name."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if name[:1] != "_"]
    for name in sorted(set(names)):
        member = getattr(module, name, None)
        if (inspect.isclass(member) or inspect.isroutine(member)) and inspect.getdoc(member):
            yield name, member


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The documented public methods that a class itself defines, by name."""
    if issubclass(cls, BaseException):
        return
    for name, member in sorted(vars(cls).items()):
        method = getattr(member, "__func__", member)
        callable_or_property = inspect.isroutine(method) or isinstance(method, property)
        if name[:1] != "_" and callable_or_property and method.__doc__:
            yield name, method


def _section(heading: str, member: Any) -> str:
    text = f"{heading}{_signature(member)}\n\n{inspect.getdoc(member)}"
    return _headed((heading,), _ADDRESS.sub("", text))


def _signature(member: Any) -> str:
    try:
        return str(inspect.signature(member))
    except (ValueError, TypeError):
        return ""
