"""MLflow's prompt registry: the same text is the same version, whoever asks for it again."""

from __future__ import annotations

from typing import Any

from proa.errors import Unavailable
from proa.retrieval.context import SLOT
from proa_pipelines import tracking

_LATEST = "latest"
_MLFLOW_SLOT = SLOT.replace("{", "{{").replace("}", "}}")


def register(url: str, name: str, text: str, *, message: str, tags: dict[str, str]) -> int:
    """The version number of a prompt's text; registered only when no version says the same.

    MLflow writes a slot with two braces, `{{context}}`; its page lists it as a variable.

    Args:
        url: MLflow's address.
        name: `MODEL.system`: a prompt and a model cannot share a name.
        message: what the page says of the change.
        tags: of the new version.

    Raises:
        Unavailable: MLflow does not answer, or refuses.
    """
    tracking.settle()
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    template = text.replace(SLOT, _MLFLOW_SLOT)
    try:
        known = _find(mlflow.genai, name, template)
        if known is not None:
            return known
        made = mlflow.genai.register_prompt(
            name=name, template=template, commit_message=message, tags=tags
        )
    except MlflowException as error:
        raise Unavailable(f"MLflow at {url}: prompt {name}: {str(error)[:300]}") from error
    return int(made.version)


def _find(genai: Any, name: str, template: str) -> int | None:
    """The newest version with this text; versions that somebody deleted are passed over."""
    newest = genai.load_prompt(f"prompts:/{name}@{_LATEST}", allow_missing=True)
    if newest is None:
        return None
    if newest.template == template:
        return int(newest.version)
    for version in range(int(newest.version) - 1, 0, -1):
        found = genai.load_prompt(name, version=version, allow_missing=True)
        if found is not None and found.template == template:
            return version
    return None
