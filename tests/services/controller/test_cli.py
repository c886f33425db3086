"""The command line against a running platform: exit codes, JSON, hints, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from proa.errors import Conflict, InvalidInput
from proa.ledger.worklist import Worklist
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


def test_retraining_is_told_and_decided_by_people(small: SmallPlatform) -> None:
    home, ref = small.home.root, small.release("cli-retrain")
    assert small.fleet.retraining("cli-retrain")["section"] is None
    section = {"fresh_days": 21, "promote": "auto"}
    body = {"release": str(ref), "reason": "test", "retrain": section}
    small.ask("POST", "/v1/models/cli-retrain/releases", body)
    told = proa(home, "retraining", "cli-retrain")
    assert "quality, calibration, slice_quality may ask; 21 fresh days" in told.stdout
    assert [model["model"] for model in small.fleet.retrainings()] == ["cli-retrain"]
    said = ("--as", "bob", "--reason", "it looks good")
    refused = proa(home, "retraining", "approve", "cli-retrain", *said)
    assert refused.returncode == 4
    assert "no request waits for it" in refused.stderr
    with pytest.raises(InvalidInput, match="needs a person's name"):
        small.fleet.reset_retraining("cli-retrain", reason="it looks good")
    bad = {**body, "retrain": {"when": ["feature_drift"]}}
    with pytest.raises(InvalidInput, match="what has moved need not be worse"):
        small.ask("POST", "/v1/models/cli-retrain/releases", bad)
    metrics = httpx.get(f"{small.fleet.endpoints.controller}/metrics").text
    assert 'proa_retraining_state{model="cli-retrain",state="idle"} 1.0' in metrics
    assert 'proa_retraining_stopped{model="cli-retrain"} 0.0' in metrics


def test_an_item_of_the_worklist_becomes_a_task(small: SmallPlatform, tmp_path: Path) -> None:
    home, ref = small.home.root, small.release("cli-items")
    signal = {"event": "e1", "kind": "feedback", "value": -1, "why": "no", "time": ref.digest}
    about = {"release": str(ref), "time": "2026-11-21T12:00:00Z", "retrieved": [{"id": "d1"}]}
    worklist = Worklist(home / "worklist.db")
    found = [
        {"request": r, "question": f"why {r}?", "answer": "so", **about, "signals": [signal]}
        for r in ("a", "b")
    ]
    worklist.take("cli-items", found, through="t", now="2026-11-21T12:00:00Z")
    worklist.close()
    item, other = (row["id"] for row in small.fleet.worklist("cli-items"))
    assert "why" in proa(home, "worklist", "cli-items").stdout
    shown = proa(home, "worklist", "show", item).stdout
    assert "feedback -1" in shown
    assert "read: d1" in shown
    words = ("worklist", "resolve", item[:8], "--as", "golden-task", "--project", str(tmp_path))
    assert "nobody said what the right answer is" in proa(home, *words).stderr
    for _ in range(2):  # asked twice, it is there once
        done = proa(home, *words, "--contains", "because")
        assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "dev.jsonl").read_text().splitlines()
    assert json.loads(line)["expect"] == {"contains": ["because"]}
    with pytest.raises(Conflict, match="as golden-task"):
        small.fleet.resolve_item(item, "ignore", reason="not worth it")
    assert proa(home, "worklist", "resolve", other, "--as", "document", "--by", "ann").stdout
    assert small.fleet.worklist("cli-items") == []
    lines = [x for x in small.fleet.history("cli-items") if x["action"] == "worklist_resolved"]
    assert [x["details"]["resolution"] for x in lines] == ["golden-task", "document"]
    assert lines[1]["who"].startswith("ann")
