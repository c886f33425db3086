"""One fleet for classic models and language models: the public API.

`import proa` is cheap: names are imported when first used, and none of them pulls in MLflow,
pandas, Kubeflow Pipelines, Feast or BentoML.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proa.errors import ProaError
    from proa.fleet import connect
    from proa.training import TrainingData, Trial

__all__ = ["ProaError", "TrainingData", "Trial", "__version__", "connect"]

__version__ = "0.1.0"

_HOMES = {
    "ProaError": "proa.errors",
    "TrainingData": "proa.training",
    "Trial": "proa.training",
    "connect": "proa.fleet",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'proa' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
