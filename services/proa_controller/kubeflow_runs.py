"""Runs on Kubeflow Pipelines, by its REST API (v2beta1).

What to run was laid down by `proa create PROJECT --on cluster`: a recurring run named
`NAME retraining`, which never starts by itself (mode DISABLE) and holds the compiled pipeline, its
service account and the project's package. A run copies it, with its own windows and cause, under
a name of its own, by which it is found again: so it is started once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from proa.errors import NotFound, ProaError, Unavailable, error_from_wire
from proa_controller.runs import Look, Order

__all__ = ["KubeflowRuns", "Pipelines"]

_API: Final = "/apis/v2beta1"
_GOES_ON: Final = ("RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING", "CANCELING", "PAUSED")
_SAID: Final = 600
_EQUALS: Final = 1
"""`Predicate.Operation.EQUALS`, as KFP's own client writes it."""


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Where Kubeflow's API is.

    Attributes:
        namespace: the profile's; None for an installation without.
        token_file: holds a bearer token, read again for every request.
        ca_file: whom to trust.
        experiment: None: the model's name.
    """

    url: str
    namespace: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    experiment: str | None = None


class KubeflowRuns:
    """`Runner` over one Kubeflow."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._where = pipelines
        verify: Any = True
        if pipelines.ca_file is not None:
            import ssl

            verify = ssl.create_default_context(cafile=str(pipelines.ca_file))
        self._http = httpx.Client(
            base_url=pipelines.url.rstrip("/") + _API,
            timeout=httpx.Timeout(20.0, connect=3.0),
            verify=verify,
        )

    def start(self, order: Order) -> None:
        """Copy the model's template into a run.

        Raises:
            NotFound: the project was not submitted since it has a section `retrain`.
            Unavailable: Kubeflow does not answer.
        """
        if self._find(order.model, order.run) is not None:
            return
        experiment, template = self._template(order.model)
        kept = template.get("runtime_config", {}).get("parameters", {})
        parameters = {
            **kept,
            "overrides": json.dumps(
                {**json.loads(kept.get("overrides") or "{}"), **order.overrides}
            ),
            **order.cause,
        }
        body = {
            "display_name": _name(order.model, order.run),
            "experiment_id": experiment,
            "pipeline_spec": template["pipeline_spec"],
            "runtime_config": {**template.get("runtime_config", {}), "parameters": parameters},
        }
        if template.get("service_account"):
            body["service_account"] = template["service_account"]
        self._ask("POST", "/runs", body=body)

    def look(self, model: str, run: str) -> Look:
        """The run's state; a failed one says what it said."""
        found = self._find(model, run)
        if found is None:
            return Look("absent")
        state = found.get("state") or _GOES_ON[0]
        if state in _GOES_ON:
            return Look("running")
        said = (found.get("error") or {}).get("message") or _step(found)
        return Look("ended", f"run {found['run_id']} {state.lower()}: {said}"[:_SAID])

    def stop(self, model: str, run: str) -> None:
        """Terminate the run."""
        found = self._find(model, run)
        if found is not None and (found.get("state") or _GOES_ON[0]) in _GOES_ON:
            self._ask("POST", f"/runs/{found['run_id']}:terminate")

    def close(self) -> None:
        """Runs go on without a controller."""
        self._http.close()

    def _find(self, model: str, run: str) -> dict[str, Any] | None:
        experiment = self._experiment(model)
        if experiment is None:
            return None
        name = _name(model, run)
        query = {"experiment_id": experiment, **_named(name)}
        found = [r for r in self._pages("/runs", "runs", query) if r["display_name"] == name]
        # the oldest of several: a second could only come of two leaders at once
        return min(found, key=lambda item: str(item.get("created_at", "")), default=None)

    def _template(self, model: str) -> tuple[str, dict[str, Any]]:
        experiment, name = self._experiment(model), f"{model} retraining"
        if experiment is not None:
            query = {"experiment_id": experiment}
            for item in self._pages("/recurringruns", "recurringRuns", query):
                if item["display_name"] == name:
                    return experiment, item
        raise NotFound(
            f"Kubeflow at {self._where.url} has no recurring run {name!r} to copy",
            hint="proa create PROJECT --on cluster, with a section retrain in proa.yaml",
        )

    def _experiment(self, model: str) -> str | None:
        name, namespace = self._where.experiment or model, self._where.namespace
        place = {} if namespace is None else {"namespace": namespace}
        for item in self._pages("/experiments", "experiments", {**place, **_named(name)}):
            if item["display_name"] == name:
                return str(item["experiment_id"])
        return None

    def _pages(self, path: str, key: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = self._ask("GET", path, query={**query, "page_size": "100", "page_token": token})
            yield from page.get(key) or ()
            token = page.get("next_page_token") or ""
            if not token:
                return

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> dict[str, Any]:
        """One request.

        Raises:
            Unavailable: no answer, or not one of Kubeflow.  ProaError: it refuses.
        """
        try:
            answer = self._http.request(
                method, path, params=query, json=body, headers=self._headers()
            )
            value = answer.json() if answer.content else {}
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise Unavailable(
                f"Kubeflow Pipelines at {self._where.url} did not answer: {error!r}"[:500]
            ) from error
        if answer.status_code >= 400 or not isinstance(value, dict):
            raise self._refused(answer.status_code, method, path, value)
        return value

    def _headers(self) -> dict[str, str]:
        if self._where.token_file is None:
            return {}
        return {"authorization": f"Bearer {self._where.token_file.read_text().strip()}"}

    def _refused(self, status: int, method: str, path: str, value: Any) -> ProaError:
        said = value.get("message") or value.get("error") if isinstance(value, dict) else value
        where = f"Kubeflow at {self._where.url}: {method} {path.partition('?')[0]}"
        return error_from_wire(
            status, {"error": {"message": f"{where}: {str(said)[:300]}", "code": "kubeflow"}}
        )


def _name(model: str, run: str) -> str:
    return f"{model} retraining {run}"


def _named(name: str) -> dict[str, str]:
    """A filter by name, as Kubeflow's API has it."""
    predicate = {"operation": _EQUALS, "key": "display_name", "stringValue": name}
    return {"filter": json.dumps({"predicates": [predicate]})}


def _step(run: Mapping[str, Any]) -> str:
    """The first step that failed, and what it said."""
    details = (run.get("run_details") or {}).get("task_details") or ()
    for task in details:
        if task.get("state") == "FAILED":
            said = (task.get("error") or {}).get("message") or "it said nothing"
            return f"step {task.get('display_name')}: {said}"
    return "no step says why" if run.get("state") != "SUCCEEDED" else "done"
