"""Small real classic releases for tests and benchmarks: trained here, stored in a bundle store.

The data is made up (seeded), the estimator is what the flight-delay project uses: gradient-boosted
trees behind an OrdinalEncoder, calibrated on held-out rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proa.release import model_files, runtime, scoring
from proa.release.bundle import BundleStore, list_files
from proa.release.manifest import ClassicSpec, Manifest, check_manifest
from proa.release.reference import ReleaseRef

CARRIERS = ("AA", "B6", "DL", "EV", "UA")
ORIGINS = ("EWR", "JFK", "LGA")
COLUMNS: tuple[dict[str, Any], ...] = (
    {"name": "carrier", "type": "string"},
    {"name": "origin", "type": "string"},
    {"name": "hour", "type": "long", "nullable": False},
    {"name": "weekend", "type": "boolean"},
    {"name": "distance", "type": "double"},
    {"name": "wind", "type": "double"},
    {"name": "origin_delay", "type": "double"},
)


def data(rows: int = 3000, seed: int = 0, *, extra: int = 0) -> tuple[dict[str, list[Any]], Any]:
    """Columns (a few nulls in each nullable one but `weekend`) and what came true, bool [rows]."""
    random = np.random.default_rng(seed)
    carrier = random.choice(CARRIERS, rows).tolist()
    wind = random.gamma(2.0, 5.0, rows)
    delay = random.exponential(10.0, rows)
    hour = random.integers(5, 23, rows)
    weekend = random.random(rows) < 0.3
    score = (
        0.1 * (hour - 14) + 0.05 * wind + 0.08 * delay + np.array([c == "EV" for c in carrier]) - 2
    )
    columns: dict[str, list[Any]] = {
        "carrier": carrier,
        "origin": random.choice(ORIGINS, rows).tolist(),
        "hour": hour.tolist(),
        "weekend": weekend.tolist(),
        "distance": random.uniform(100, 2500, rows).tolist(),
        "wind": wind.tolist(),
        "origin_delay": delay.tolist(),
    }
    for name in ("carrier", "wind", "distance"):
        for row in random.integers(0, rows, rows // 50):
            columns[name][row] = None
    columns |= {f"extra_{i}": random.normal(size=rows).tolist() for i in range(extra)}
    return columns, random.random(rows) < 1 / (1 + np.exp(-score))


def spec(**changes: Any) -> dict[str, Any]:
    """The manifest's classic section."""
    value: dict[str, Any] = {
        "task": "binary",
        "model": f"model/{model_files.MODEL}",
        "columns": [dict(column) for column in COLUMNS],
        "threshold": 0.4,
        "explainer": "shap",
        "background": "background.json",
    }
    return {**value, **changes}


def train(
    section: ClassicSpec, columns: Mapping[str, list[Any]], late: Any, *, trees: int = 12
) -> Any:
    """Trees behind an encoder, calibrated isotonically on the last quarter."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    frame = scoring.frame(section, scoring.checked(section, columns))
    texts = [column.name for column in section.columns if column.type == "string"]
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    pipeline = Pipeline(
        [
            ("encode", ColumnTransformer([("texts", encoder, texts)], remainder="passthrough")),
            ("trees", HistGradientBoostingClassifier(max_iter=trees, random_state=0)),
        ]
    )
    cut = len(late) * 3 // 4
    pipeline.fit(frame[:cut], late[:cut])
    frozen = FrozenEstimator(pipeline)
    calibrated = CalibratedClassifierCV(frozen, ensemble=False, method="isotonic")
    return calibrated.fit(frame[cut:], late[cut:])


@dataclass(frozen=True)
class Built:
    """A release in a store, with what it was made from."""

    ref: ReleaseRef
    store: BundleStore
    manifest: Manifest
    model: Any
    columns: dict[str, list[Any]]

    @property
    def spec(self) -> ClassicSpec:
        assert self.manifest.classic is not None
        return self.manifest.classic

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        """Rows of its data."""
        return [
            {name: values[row] for name, values in self.columns.items()}
            for row in range(start, start + count)
        ]

    def argv(self, workdir: Path, *more: str | Path) -> list[str | Path]:
        """The command of its predictor; `{port}` is left to whoever starts it."""
        return [
            *("python", "-m", "proa_predictor", "--release", str(self.ref), "--port", "{port}"),
            *("--bundles", f"file://{self.store.blobs.root}", "--workdir", workdir, *more),
        ]

    def blob(self, path: str) -> Path:
        """Where the store keeps one of its files."""
        found = {file.path: file.sha256 for file in self.manifest.files}[path]
        hexdigest = found.removeprefix("sha256:")
        return self.store.blobs.root / "sha256" / hexdigest[:2] / hexdigest


def build(
    folder: Path,
    *,
    model: Any = None,
    examples: tuple[dict[str, list[Any]], Any] | None = None,
    extra: int = 0,
    trees: int = 12,
    cases: list[dict[str, Any]] | None = None,
    pinned: Mapping[str, Any] | None = None,
    version: int = 1,
    **changes: Any,
) -> Built:
    """Train, save, and put a release into `folder/store`.

    Args:
        model: an estimator instead of the usual one.
        examples: columns and what came true, instead of `data()`.
        extra: further numeric columns.  trees: how many.
        cases: selftest cases instead of true ones.
        pinned: the manifest's runtime instead of this process's.
        changes: keys of the classic section.
    """
    section = spec(**changes)
    if extra:
        more = [{"name": f"extra_{i}", "type": "double"} for i in range(extra)]
        section["columns"] = [*section["columns"], *more]
    typed = ClassicSpec.model_validate(section)
    columns, late = data(extra=extra) if examples is None else examples
    model = train(typed, columns, late, trees=trees) if model is None else model
    staging = folder / "staging"
    model_files.save(model, staging / "model")
    known = {name: columns[name] for name in (column["name"] for column in section["columns"])}
    head = {name: values[:60] for name, values in known.items()}
    (staging / "background.json").write_text(json.dumps({"columns": head}))
    built = {name: values[:8] for name, values in known.items()}
    rows = [dict(zip(built, values, strict=True)) for values in zip(*built.values(), strict=True)]
    if cases is None:
        cases = []
        for row in rows:
            asked = {"rows": [row]}
            output = scoring.answer_case(model, typed, asked)
            cases.append({"input": asked, "output": output})
    (staging / "selftest.json").write_text(json.dumps({"cases": cases}))
    manifest = check_manifest(
        {
            "name": "flight-delay",
            "kind": "classic",
            "runtime": runtime.describe().model_dump() if pinned is None else dict(pinned),
            "classic": section,
            "selftest": "selftest.json",
            "files": [file.model_dump() for file in list_files(staging)],
        }
    )
    store = BundleStore(folder / "store")
    digest = store.put(manifest, staging)
    return Built(ReleaseRef("flight-delay", version, digest), store, manifest, model, known)


def infer_body(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """An Open Inference Protocol request for these rows."""
    kinds = {column["name"]: column["type"] for column in COLUMNS}
    names = {"string": "BYTES", "long": "INT64", "boolean": "BOOL", "double": "FP64"}
    inputs = [
        {
            "name": name,
            "shape": [len(rows)],
            "datatype": names[kinds.get(name, "double")],
            "data": [row[name] for row in rows],
        }
        for name in rows[0]
    ]
    return {"inputs": inputs, **more}
