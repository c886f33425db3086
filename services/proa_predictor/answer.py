"""What is answered, and both wire forms of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proa.release.manifest import ClassicSpec
from proa.release.reference import ReleaseRef
from proa.release.scoring import Outputs
from proa_predictor.question import Question

__all__ = ["Answer", "Reason", "Writer", "output_names"]

Reason = dict[str, Any]
"""`{"feature", "value", "contribution"}`: one column's part in one row's answer."""

_INPUT_DATATYPES: Final = {
    "boolean": "BOOL",
    "long": "INT64",
    "double": "FP64",
    "string": "BYTES",
    "datetime": "BYTES",
}


@dataclass(slots=True)
class Answer:
    """Outputs of n rows and what they came from.

    Attributes:
        inputs: columns as the model got them, n checked values each.
        outputs: see `proa.release.scoring.Outputs`.
        ages: view → age of its n rows in seconds, when features were read by entity.
        reasons: per row its reasons, largest first, when asked for; `explained` is what they add
            up to: `margin`, `probability` or `prediction`; `base` is where they start.
    """

    inputs: Mapping[str, Sequence[Any]]
    outputs: Outputs
    ages: Mapping[str, Sequence[float]] | None = None
    reasons: list[list[Reason]] | None = None
    explained: str | None = None
    base: float | None = None


def output_names(spec: ClassicSpec) -> tuple[str, ...]:
    """The outputs a release answers with, in order."""
    if spec.task == "binary":
        return "probability", "label"
    if spec.task == "multiclass":
        return "probabilities", "label"
    if spec.task == "anomaly" and spec.threshold is not None:
        return "prediction", "label"
    return ("prediction", "lower", "upper") if spec.intervals else ("prediction",)


class Writer:
    """Writes answers of one release in both wire forms."""

    def __init__(self, ref: ReleaseRef, spec: ClassicSpec) -> None:
        self._ref = ref
        self._spec = spec
        self._names = output_names(spec)
        self._datatypes = dict.fromkeys(self._names, "FP64") | {
            "label": "BYTES" if spec.task == "multiclass" else "BOOL"
        }

    def infer(self, question: Question, answer: Answer) -> bytes:
        """An Open Inference Protocol answer; the release is in `parameters`."""
        tensors = [
            self._tensor(name, values)
            for name, values in answer.outputs.items()
            if not question.wanted or name in question.wanted
        ]
        if answer.reasons is not None:
            tensors.append(
                {
                    "name": "reasons",
                    "datatype": "BYTES",
                    "shape": [len(answer.reasons)],
                    "parameters": {"explained": answer.explained, "base": answer.base},
                    "data": [orjson.dumps(row).decode() for row in answer.reasons],
                }
            )
        body: dict[str, Any] = {
            "model_name": self._ref.name,
            "model_version": str(self._ref.version),
            "parameters": {"release": str(self._ref)},
            "outputs": tensors,
        }
        if question.id is not None:
            body["id"] = question.id
        return orjson.dumps(body)

    def _tensor(self, name: str, values: Sequence[Any]) -> dict[str, Any]:
        shape = [len(values)]
        data = values
        if name == "probabilities":
            shape.append(len(values[0]))
            data = [value for row in values for value in row]
        found: dict[str, Any] = {
            "name": name,
            "datatype": self._datatypes[name],
            "shape": shape,
            "data": data,
        }
        if name == "probabilities":
            found["parameters"] = {"classes": self._spec.classes}
        return found

    def predict(self, _: Question, answer: Answer) -> bytes:
        """`{"predictions": [{probability, label, reasons?}], "release", "classes"?}`."""
        names = list(answer.outputs)
        rows = [
            dict(zip(names, values, strict=True))
            for values in zip(*answer.outputs.values(), strict=True)
        ]
        if answer.reasons is not None:
            for row, reasons in zip(rows, answer.reasons, strict=True):
                row["reasons"] = reasons
        body: dict[str, Any] = {"predictions": rows, "release": str(self._ref)}
        if self._spec.task == "multiclass":
            body["classes"] = self._spec.classes
        if answer.reasons is not None:
            body |= {"explained": answer.explained, "base": answer.base}
        return orjson.dumps(body)

    def metadata(self) -> dict[str, Any]:
        """`GET /v2/models/{name}`: the model's inputs and outputs."""
        inputs = [
            {"name": column.name, "datatype": _INPUT_DATATYPES[column.type], "shape": [-1]}
            for column in self._spec.columns
        ]
        outputs = [
            {
                "name": name,
                "datatype": self._datatypes[name],
                "shape": [-1, len(self._spec.classes)] if name == "probabilities" else [-1],
            }
            for name in self._names
        ]
        keys = [view.join_key for view in self._spec.feature_views if view.from_feature is None]
        return {
            "name": self._ref.name,
            "versions": [str(self._ref.version)],
            "platform": f"proa_{self._spec.model_format}",
            "inputs": inputs,
            "outputs": outputs,
            "parameters": {
                "release": str(self._ref),
                "task": self._spec.task,
                "entity_keys": keys,
                "classes": self._spec.classes,
            },
        }
