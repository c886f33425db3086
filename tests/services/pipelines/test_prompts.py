"""Prompts in MLflow's registry: a real one on SQLite."""

from __future__ import annotations

import pytest

from proa.errors import Unavailable
from proa_pipelines import prompts
from tests.processes import free_port

# MLflow's client uses what its dependencies deprecated
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def register(url: str, text: str) -> int:
    return prompts.register(url, "tea.system", text, message="m", tags={"proa.team": "docs"})


def test_the_same_text_is_the_same_version(mlflow_url: str) -> None:
    texts = ["Use {context}", "Say {x}", "Use {context}", "Say {x}", "Use {context} well"]
    assert [register(mlflow_url, text) for text in texts] == [1, 2, 1, 2, 3]
    from mlflow import MlflowClient

    found = MlflowClient(mlflow_url, mlflow_url).get_prompt_version("tea.system", "1")
    assert found.template == "Use {{context}}"
    assert found.variables == {"context"}
    assert found.tags["proa.team"] == "docs"


def test_mlflow_that_does_not_answer_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=url):
        register(url, "Use {context}")


def test_feast_is_not_imported_for_a_request(mlflow_url: str) -> None:
    """Its plug-in would cost every command four seconds."""
    import subprocess
    import sys

    code = (
        "import sys; from proa.release.registry import Registry; "
        f"Registry({mlflow_url!r}).versions('tea'); print('feast' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "False"
