"""MLflow's prompt registry: the same text is the same version, whoever asks for it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proa.errors import Unavailable
from proa.release.registry import prepare_mlflow
from proa.retrieval.context import SLOT

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
    prepare_mlflow()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(url, url)
    template = text.replace(SLOT, _MLFLOW_SLOT)
    try:
        known = _find(client, name, template)
        if known is not None:
            return known
        made = client.register_prompt(name, template, commit_message=message, tags=tags)
    except MlflowException as error:
        raise Unavailable(f"MLflow at {url}: prompt {name}: {str(error)[:300]}") from error
    return int(made.version)


def _find(client: Any, name: str, template: str) -> int | None:
    """The newest version with this text."""
    if client.get_prompt(name) is None:
        return None
    versions = [version.version for version in _versions(client, name, template)]
    return max(map(int, versions), default=None)


def _versions(client: Any, name: str, template: str) -> Iterator[Any]:
    page = None
    while True:
        found = client.search_prompt_versions(name, page_token=page)
        yield from (version for version in found if version.template == template)
        page = getattr(found, "token", None)
        if not page:
            return
