"""`proa init` writes projects that run as written: created, judged, promoted and asked.

See conftest for what is faked: the engine's text. Its stand-in answers with the first sentences of
the first passage, so the exam of the language project tests retrieval, citations and guard here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proa.embedded.engine_choice import weights_cache
from proa.project.scaffold import write_project
from proa.release.reference import ReleaseRef
from tests.services.own.conftest import Workplace

pytestmark = pytest.mark.timeout(1800)


def test_the_classic_project_runs_as_written(place: Workplace, tmp_path: Path) -> None:
    folder = tmp_path / "late"
    write_project("late-orders", kind="classic", folder=folder)
    result = place.fleet.create(folder, until="promote")
    assert (result["verdict"], result["promoted"]) == ("pass", True)
    row = {"carrier": "red", "distance_km": 400.0, "weight_kg": 2.5}
    found = place.fleet.predict("late-orders", rows=[row], explain=True)
    assert found.release == result["release"]
    assert found.predictions[0]["probability"] > 0.6
    assert {reason["feature"] for reason in found.predictions[0]["reasons"]} == {*row}


def test_a_project_trains_in_the_runtime_that_it_brings(place: Workplace, tmp_path: Path) -> None:
    folder = tmp_path / "late"
    write_project("late-orders", kind="classic", folder=folder)
    (folder / "requirements.txt").write_text("scikit-learn==1.5.2\n")
    said: list[str] = []
    settings = {"runtime.requirements": "requirements.txt"}
    older = place.fleet.create(folder, overrides=settings, on_line=said.append)
    manifest = place.fleet.manifest(ReleaseRef.parse(older["release"]))
    assert manifest.runtime.kind == "requirements"
    assert manifest.runtime.libraries["scikit-learn"] == "1.5.2"
    assert manifest.metrics["roc_auc"] > 0.65
    assert any("100 %" in line for line in said)


def test_the_language_project_runs_as_written(place: Workplace, tmp_path: Path) -> None:
    cache = weights_cache(os.environ)
    missing = not list(cache.glob("all-minilm-*")) or not list(cache.glob("smollm2-*"))
    if missing and os.environ.get("PROA_TEST_ENGINE") != "required":
        pytest.skip("the weights are not here: make setup-engine")
    folder = tmp_path / "library"
    write_project("library", kind="llm", folder=folder)
    result = place.fleet.create(folder, until="promote")
    assert (result["verdict"], result["promoted"]) == ("pass", True)
    question = {"role": "user", "content": "How many books may I borrow?"}
    answer = place.fleet.chat("library", [question])
    assert "ten books" in answer["choices"][0]["message"]["content"]
    assert answer["proa"]["citations"][0]["source"] == "pages/borrowing.md"
