"""From a release's name to something that answers: fetch, verify, load, prove, or refuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proa.errors import Conflict, Refused
from proa.release import model_files, runtime
from proa.release.bundle import BundleStore
from proa.release.canonical import parse_json
from proa.release.compiled import Scorer, prepare
from proa.release.manifest import ClassicSpec, Manifest
from proa.release.reference import ReleaseRef
from proa.release.scoring import check_model, columns_of_rows, row_of
from proa.release.selftest import Case, parse_cases, run_cases

__all__ = ["Loaded", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A release that has proven itself in this process.

    Attributes:
        cases: selftest cases that were reproduced; 0 when the release has none.
        background: its background rows, if it has any.
    """

    ref: ReleaseRef
    manifest: Manifest
    spec: ClassicSpec
    scorer: Scorer
    cases: int
    background: dict[str, list[Any]] | None


def load(ref: ReleaseRef, bundles: BundleStore, workdir: Path) -> Loaded:
    """Lay out the release, check every digest, the runtime, the model, and run the selftest.

    Args:
        workdir: holds one folder per release, named by its digest.

    Raises:
        ProaError: what was wrong with the release; it must not serve.
    """
    folder = workdir / ref.digest.removeprefix("sha256:")
    manifest = bundles.materialize(ref.digest, folder)
    if manifest.name != ref.name:
        raise Conflict(f"release {ref.short}: its manifest is of {manifest.name!r}")
    if manifest.classic is None:
        raise Refused(f"release {ref.short} is of kind {manifest.kind}: expected classic")
    spec = manifest.classic
    runtime.check_built(manifest)
    runtime.check(manifest.runtime)
    _be_quick()
    model = model_files.load(manifest, folder)
    check_model(model, spec)
    cases = _cases(manifest, folder)
    background = _background(spec, folder)
    scorer = prepare(model, spec, _probes(spec, cases, background))
    proven = run_cases(cases, lambda case: _answer(scorer, case)) if cases else 0
    return Loaded(ref, manifest, spec, scorer, proven, background)


def _be_quick() -> None:
    """In this thread: no OpenMP team for a few rows, no second look at values checked already."""
    import sklearn
    from threadpoolctl import threadpool_limits

    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
    threadpool_limits(1)


def _cases(manifest: Manifest, folder: Path) -> list[Case]:
    if manifest.selftest is None:
        return []
    return parse_cases(parse_json((folder / manifest.selftest).read_bytes(), what="selftest"))


def _background(spec: ClassicSpec, folder: Path) -> dict[str, list[Any]] | None:
    if spec.background is None:
        return None
    value = parse_json((folder / spec.background).read_bytes(), what=spec.background)
    columns = value.get("columns") if isinstance(value, dict) else None
    names = {column.name for column in spec.columns}
    if not isinstance(columns, dict) or columns.keys() != names:
        raise Refused(f'{spec.background}: expected {{"columns": {{name: [values]}}}} of {names}')
    return columns


def _probes(
    spec: ClassicSpec, cases: list[Case], background: dict[str, list[Any]] | None
) -> dict[str, list[Any]] | None:
    """Real rows on which the compiled path is compared with the model's own."""
    if background is not None:
        return background
    rows = [row for case in cases for row in case.input["rows"]]
    return columns_of_rows(spec, rows) if rows else None


def _answer(scorer: Scorer, case: Any) -> dict[str, Any]:
    return row_of(scorer.score(columns_of_rows(scorer.spec, case["rows"])), 0)
