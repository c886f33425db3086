"""The command line against a running platform: exit codes, JSON, hints, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.controller.platform import SmallPlatform

COMMAND = [sys.executable, "-c", "from proa.cli import main; main()"]


def proa(home: Path, *words: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", **({"PROA_KEY": key} if key else {})}
    return subprocess.run(
        [*COMMAND, "--home", str(home), *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def test_status_for_people_and_for_machines(small: SmallPlatform) -> None:
    ref = small.champion("cli-status")
    table = proa(small.home.root, "status")
    assert table.returncode == 0
    assert ref.short in table.stdout
    assert "gateway" in table.stdout
    value = json.loads(proa(small.home.root, "status", "cli-status", "--json").stdout)
    assert value["champion"] == str(ref)


def test_history_diff_and_predict(small: SmallPlatform) -> None:
    ref = small.champion("cli-read")
    lines = json.loads(proa(small.home.root, "--json", "history", "cli-read").stdout)
    assert [line["action"] for line in lines] == ["created", "judged", "requested", "promoted"]
    full = str(ref)
    assert proa(small.home.root, "diff", full, full).stdout.strip() == "no difference"
    answer = json.loads(
        proa(small.home.root, "predict", "cli-read", "--row", "{}", "--json").stdout
    )
    assert answer["release"] == full


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["status", "nobody"], 4, "model 'nobody' is not known here"),
        (["predict", "nobody", "--row", "{}"], 4, "nobody"),
        (["predict", "nobody"], 2, "give --entity, or --row or --file"),
        (["predict", "nobody", "--row", "{"], 2, "--row: not valid JSON"),
        (["rollback", "nobody"], 4, "nobody"),
        (["create", "/nowhere"], 2, "does not exist"),
        (["fly"], 2, "No such command"),
        (["promote", "x/y"], 2, "expected name/number"),
        (["promote", "x/1@sha256:" + "0" * 64, "--steps", "90,10"], 2, "rising"),
        (["promote", "x/1@sha256:" + "0" * 64, "--steps", "a"], 2, "expected whole percents"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    small: SmallPlatform, words: list[str], code: int, said: str
) -> None:
    done = proa(small.home.root, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_refusal_names_the_mending_command(small: SmallPlatform) -> None:
    ref = small.release("cli-refused")
    done = proa(small.home.root, "promote", str(ref))
    assert done.returncode == 6
    assert "has not been judged" in done.stderr
    assert f"hint: proa gate {ref.short}" in done.stderr


def test_a_wrong_key_and_no_platform(small: SmallPlatform, tmp_path: Path) -> None:
    assert proa(small.home.root, "status", "x", key="proa_wrong").returncode == 3
    done = proa(tmp_path / "nothing", "status")
    assert done.returncode == 4
    assert "hint: proa up" in done.stderr


def test_help_documents_every_exit_code() -> None:
    from proa import errors

    text = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    classes = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
    for cls in classes:
        assert f"{cls.exit_code} " in text, cls
