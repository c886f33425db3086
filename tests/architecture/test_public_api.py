"""The front door: what `import proa` promises is there, and nothing more."""

from __future__ import annotations

import importlib

import proa
from proa import errors, fleet


def test_all_is_the_sorted_list_of_public_names() -> None:
    assert sorted(proa.__all__) == list(proa.__all__)
    for name in proa.__all__:
        assert getattr(proa, name) is not None
    assert dir(proa) == sorted(proa.__all__)


def test_errors_know_their_place() -> None:
    family = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
    concrete = [cls for cls in family if cls is not errors.ProaError]
    assert all(issubclass(cls, errors.ProaError) for cls in concrete)
    assert len({cls.type for cls in concrete}) == len(concrete)
    assert all(400 <= cls.status < 600 for cls in concrete)


def test_an_error_survives_the_wire() -> None:
    for name in errors.__all__:
        cls = getattr(errors, name)
        if not isinstance(cls, type) or cls is errors.ProaError:
            continue
        sent = cls("no", hint="do this", code="why", param="key")
        found = errors.error_from_wire(cls.status, sent.to_wire("01J"))
        assert type(found) is cls
        assert vars(found) == vars(sent)


def test_the_fleet_has_the_verbs_of_the_design() -> None:
    verbs = "create gate promote rollback undo pause abort diff status history predict chat costs"
    assert all(callable(getattr(fleet.Fleet, verb)) for verb in verbs.split())


def test_the_command_line_has_the_same_verbs() -> None:
    cli = importlib.import_module("proa.cli")
    names = set(cli.make_cli().commands)
    expected = (
        "up down status create gate promote rollback undo pause resume abort diff history "
        "predict chat costs monitor"
    )
    assert set(expected.split()) <= names
