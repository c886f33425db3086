"""YAML with line numbers; a key given twice is an error, as is anything that is not plain data."""

from __future__ import annotations

from typing import Any

import yaml

from proa.errors import InvalidInput

Lines = dict[str, int]
"""Dotted key to its line in the file, from 1."""


def parse_yaml(data: bytes | str, *, what: str) -> tuple[Any, Lines]:
    """Decode a YAML document; return its value and the line of every key.

    Raises:
        InvalidInput: bad syntax, a tag that is not plain data, a key given twice.
    """
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(data)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines: Lines = {}
        _walk(node, "", lines, what)
        return loader.construct_document(node), lines
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        problem = getattr(error, "problem", None) or error
        raise InvalidInput(f"{what} is not valid YAML: {problem}{where}") from error
    finally:
        if loader is not None:
            loader.dispose()


def parse_scalar(text: str, *, what: str) -> Any:
    """Read `5`, `true`, `[a, b]` or plain text as YAML does."""
    return parse_yaml(text, what=what)[0]


def _walk(node: yaml.Node, prefix: str, lines: Lines, what: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = f"{prefix}{key_node.value}"
            if key in lines:
                raise InvalidInput(
                    f"{what}: {key} is given twice, in lines {lines[key]} and "
                    f"{key_node.start_mark.line + 1}",
                    param=key,
                )
            lines[key] = key_node.start_mark.line + 1
            _walk(value_node, f"{key}.", lines, what)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[f"{prefix}{index}"] = item.start_mark.line + 1
            _walk(item, f"{prefix}{index}.", lines, what)
