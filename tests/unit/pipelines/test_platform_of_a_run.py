"""A run on this machine belongs to its home, or to the platform file that was named for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from proa_pipelines import __main__, own, runner


@pytest.mark.parametrize("verb", ["run", "own"])
def test_the_environment_names_no_platform(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def note(*_: Any, **__: Any) -> int:
        seen.append(os.environ.get("PROA_PLATFORM"))
        return 0

    monkeypatch.setattr(runner, "run", note)
    monkeypatch.setattr(own, "run", note)
    monkeypatch.setenv("PROA_PLATFORM", "/etc/production.yaml")
    words = [verb, "churn", "--home", str(tmp_path)]
    assert __main__.main(words) == 0
    assert __main__.main([*words, "--platform", str(tmp_path / "platform.yaml")]) == 0
    assert seen == [None, str(tmp_path / "platform.yaml")]
