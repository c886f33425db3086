"""Kubeflow Pipelines' API through its own client: start a run, a recurring run, watch it end.

What the API refuses comes back as one of proa's errors, with the key of the platform file that
mends it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from proa.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ProaError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from proa.fleet.preset import PipelinesSection
from proa_pipelines.compiling import quiet

__all__ = ["Kubeflow", "six_fields"]

_POLL_SECONDS: Final = 2.0
_AWAY_SECONDS: Final = 120.0
"""How long the API may be away while a run is watched."""
_NEW_YEAR: Final = "0 0 0 1 1 *"
_ENDED: Final = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_QUIET_TASKS: Final = re.compile(r"root|root-driver|.*-driver|condition-\d+.*|executor")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Submitted:
    """A run or a recurring run, and the page that shows it."""

    id: str
    url: str


class Kubeflow:
    """The API that a platform file names.

    Args:
        poll: seconds between two looks at a run.

    Raises:
        Unavailable: it does not answer.  Unauthenticated, Forbidden: it does not want this caller.
        InvalidInput: it has profiles, and the file names none.
    """

    def __init__(self, section: PipelinesSection, *, poll: float = _POLL_SECONDS) -> None:
        self._section = section
        self._poll = poll
        self._look()
        self._client = self._connect()

    def experiment(self, name: str) -> str:
        """The id of the experiment; it is made when there is none."""
        with self._asking(f"experiment {name}"):
            found = self._client.create_experiment(name, namespace=self._section.namespace)
        return str(found.experiment_id)

    def run(
        self, pipeline: Path, arguments: Mapping[str, str], *, name: str, experiment: str
    ) -> Submitted:
        """Start a run of a compiled pipeline."""
        with self._asking(f"run {name}"):
            made = self._client.run_pipeline(
                experiment,
                name,
                pipeline_package_path=str(pipeline),
                params=dict(arguments),
                enable_caching=False,
                service_account=self._section.service_account,
            )
        return Submitted(made.run_id, self._page("runs", made.run_id))

    def repeat(
        self,
        pipeline: Path,
        arguments: Mapping[str, str],
        *,
        name: str,
        experiment: str,
        cron: str,
    ) -> Submitted:
        """Start a recurring run in place of those of this name. One run at a time, no catching up.

        Raises:
            InvalidInput: `cron` is no cron expression.
        """
        before = self._recurring(name, experiment)
        with self._asking(f"recurring run {name}"):
            made = self._client.create_recurring_run(
                experiment,
                name,
                cron_expression=six_fields(cron),
                max_concurrency=1,
                no_catchup=True,
                pipeline_package_path=str(pipeline),
                params=dict(arguments),
                enable_caching=False,
                service_account=self._section.service_account,
            )
        self._delete(before)  # only now: a refused one leaves the old in place
        identifier = made.recurring_run_id
        return Submitted(identifier, self._page("recurringrun", identifier))

    def keep(
        self, pipeline: Path, arguments: Mapping[str, str], *, name: str, experiment: str
    ) -> Submitted:
        """Lay a pipeline down as a recurring run that never starts (mode DISABLE), in place of
        those of this name: the controller copies it when a finding asks for a run."""
        before = self._recurring(name, experiment)
        with self._asking(f"recurring run {name}"):
            made = self._client.create_recurring_run(
                experiment,
                name,
                cron_expression=_NEW_YEAR,  # there must be one
                enabled=False,
                max_concurrency=1,
                no_catchup=True,
                pipeline_package_path=str(pipeline),
                params=dict(arguments),
                enable_caching=False,
                service_account=self._section.service_account,
            )
        self._delete(before)
        identifier = made.recurring_run_id
        return Submitted(identifier, self._page("recurringrun", identifier))

    def end(self, name: str, experiment: str) -> int:
        """End the recurring runs of this name; how many there were."""
        found = self._recurring(name, experiment)
        self._delete(found)
        return len(found)

    def watch(self, run: Submitted, say: Say) -> None:
        """Say each step's states until the run ends.

        Raises:
            Refused: it failed or was cancelled; the message names the step and what it said.
            Unavailable: the API was away for two minutes.
        """
        told: dict[str, str] = {}
        deadline = time.monotonic() + _AWAY_SECONDS
        while True:
            try:
                with self._asking(f"run {run.id}"):
                    found = self._client.get_run(run.id)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(self._poll)
                continue
            deadline = time.monotonic() + _AWAY_SECONDS
            _tell(found, told, say)
            if found.state in _ENDED:
                break
            time.sleep(self._poll)
        if found.state != "SUCCEEDED":
            raise _failure(found, run)

    def _recurring(self, name: str, experiment: str) -> list[str]:
        found: list[Any] = []
        token = ""
        with self._asking(f"recurring runs of {name}"):
            while True:
                page = self._client.list_recurring_runs(
                    experiment_id=experiment, page_size=100, page_token=token
                )
                found += page.recurring_runs or ()
                token = page.next_page_token or ""
                if not token:
                    break
        return [str(item.recurring_run_id) for item in found if item.display_name == name]

    def _delete(self, identifiers: list[str]) -> None:
        for identifier in identifiers:
            with self._asking(f"recurring run {identifier}"):
                self._client.delete_recurring_run(identifier)

    def _page(self, kind: str, identifier: str) -> str:
        base = (self._section.ui or self._section.url).rstrip("/")
        return f"{base}/#/{kind}/details/{identifier}"

    # The connection

    def _look(self) -> None:
        """One look before the client is made: it would ask five times, five seconds apart."""
        section = self._section
        token = self._token()
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        try:
            with httpx.Client(verify=self._verify(), timeout=20, headers=headers) as http:
                answer = http.get(f"{section.url}/apis/v2beta1/healthz")
        except (httpx.HTTPError, OSError) as error:
            raise self._away(str(error) or type(error).__name__) from error
        if answer.status_code >= 400:
            raise self._translated(answer.status_code, answer.text, "its health")
        try:
            health = answer.json()
        except ValueError as error:
            raise InvalidInput(
                f"pipelines.url = {section.url!r}: what answers there is no API of Kubeflow "
                "Pipelines",
                hint="the address without /apis, as https://kubeflow.example.com/pipeline",
                param="pipelines.url",
            ) from error
        if health.get("multi_user") and section.namespace is None:
            raise InvalidInput(
                f"Kubeflow at {section.url} has profiles: pipelines.namespace is missing",
                hint="name your profile's namespace in the platform file",
                param="pipelines.namespace",
            )

    def _verify(self) -> Any:
        import ssl

        if not self._section.verify_tls:
            return False
        return ssl.create_default_context(cafile=self._section.ca_file)

    def _connect(self) -> Any:
        section = self._section
        with self._asking("its API"):
            from kfp import Client

            return Client(
                host=section.url,
                namespace=section.namespace or "kubeflow",
                credentials=None if section.token_file is None else _credentials(self._token),
                ssl_ca_cert=section.ca_file,
                verify_ssl=section.verify_tls,
            )

    def _token(self) -> str | None:
        """The token as it is now: whoever wrote the file renews it."""
        name = self._section.token_file
        if name is None:
            return None
        try:
            return Path(name).read_text().strip()
        except OSError as error:
            raise Conflict(
                f"pipelines.token_file: {name}: {error.strerror}", param="pipelines.token_file"
            ) from error

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Ask the client: what it prints is not ours to print, its exceptions end here."""
        import kfp_server_api
        import urllib3

        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        try:
            with quiet(), contextlib.redirect_stdout(io.StringIO()):
                yield
        except kfp_server_api.ApiException as error:
            if not error.status:
                raise self._away(str(error.reason)) from error
            raise self._translated(error.status, error.body or error.reason, what) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(str(error)) from error

    def _away(self, why: str) -> Unavailable:
        return Unavailable(
            f"Kubeflow Pipelines at {self._section.url} did not answer: {why[:300]}",
            hint="pipelines.url in the platform file; kubectl get pods -l app=ml-pipeline -A",
        )

    def _translated(self, status: int, body: Any, what: str) -> ProaError:
        where = f"Kubeflow Pipelines at {self._section.url}"
        namespace = self._section.namespace
        place = f"namespace {namespace}" if namespace else "no namespace"
        said = _said(body)
        if status == 401:
            hint = "pipelines.token_file: a token that is valid now"
            return Unauthenticated(f"{where}: {what}: not logged in: {said}", hint=hint)
        if status == 403:
            hint = f"ask the owner of {place} for the role kubeflow-edit there"
            return Forbidden(f"{where}: {what}: not allowed in {place}: {said}", hint=hint)
        if status == 404:
            return NotFound(f"{where}: {what}: there is none: {said}")
        if status == 409:
            return Conflict(f"{where}: {what}: {said}")
        if status < 500:
            return InvalidInput(f"{where}: {what}: refused: {said}")
        return Unavailable(f"{where}: {what}: HTTP {status}: {said}")


def six_fields(cron: str) -> str:
    """A cron expression as Kubeflow has it, with seconds in front; five fields get 0.

    Raises:
        InvalidInput: neither five nor six fields, nor `@daily` and the like.
    """
    fields = cron.split()
    if cron.startswith("@") and len(fields) == 1:
        return cron
    if len(fields) == 5:
        return f"0 {' '.join(fields)}"
    if len(fields) == 6:
        return " ".join(fields)
    raise InvalidInput(
        f"--every {cron!r}: expected five fields, as '0 3 * * 1' (Mondays at 3:00 UTC)",
        param="every",
    )


def _credentials(token: Callable[[], str | None]) -> Any:
    from kfp.client.token_credentials_base import TokenCredentialsBase

    class FromFile(TokenCredentialsBase):  # type: ignore[misc]  # kfp has no types
        """Reads the token again for every request."""

        def get_token(self) -> str | None:
            return token()

        def refresh_api_key_hook(self, config: Any) -> None:
            config.api_key["authorization"] = token()

    return FromFile()


def _said(body: Any) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        value = json.loads(text)
    except ValueError:
        return text[:500]
    return str(value.get("message") or value.get("error") or text)[:500]


def _tell(run: Any, told: dict[str, str], say: Say) -> None:
    details = run.run_details.task_details if run.run_details is not None else None
    for task in details or ():
        name, state = task.display_name or task.task_id, task.state
        if not state or told.get(task.task_id) == state or _QUIET_TASKS.fullmatch(name):
            continue
        told[task.task_id] = state
        if state == "PENDING":
            continue
        took = ""
        if state in _ENDED and task.start_time and task.end_time:
            took = f"  {(task.end_time - task.start_time).total_seconds():.0f} s"
        say(f"  {name}  {state.lower()}{took}")
    if run.state and told.get("") != run.state:
        told[""] = run.state
        say(f"run {run.state.lower()}")


def _failure(run: Any, submitted: Submitted) -> Refused:
    """The step that failed and what it said; the run's own error when no step has one."""
    details = run.run_details.task_details if run.run_details is not None else None
    failed = [task for task in details or () if task.state == "FAILED"]
    named = [task for task in failed if not _QUIET_TASKS.fullmatch(task.display_name or "")]
    step = (named or failed or [None])[0]
    said = next(
        (found.error.message for found in (*named, *failed, run) if found.error is not None), None
    )
    where = f" in step {step.display_name}" if step is not None else ""
    word = "was cancelled" if run.state == "CANCELED" else run.state.lower()
    return Refused(
        f"run {run.run_id} {word}{where}: {said or 'Kubeflow says no more'}",
        hint=f"its log: {submitted.url}",
        code="run_failed",
    )
