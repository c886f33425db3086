"""Releases in MLflow's model registry: the version number, the aliases and the page people read.

The only module of the platform that speaks MLflow's registry API. A release is a model version
whose source is a folder with its manifest; the bundle store holds the content.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from proa.errors import Conflict, InvalidInput, NotFound, ProaError, Unavailable
from proa.release.bundle import MANIFEST
from proa.release.manifest import Manifest
from proa.release.page import release_page
from proa.release.reference import ReleaseRef

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER = "challenger"
"""The alias by which people and pipelines request a release."""
CHAMPION = "champion"
"""The alias by which the controller reports what serves."""
_DIGEST, _KIND, _BUNDLE, _VERDICT = "proa.digest", "proa.kind", "proa.bundle", "proa.verdict"
# MLflow reads these when it sends. Its defaults wait four minutes for a server that is down, and
# print a line to stdout for every run.
_MANNERS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Registered:
    """A release as the registry knows it. `created` is epoch seconds."""

    ref: ReleaseRef
    kind: str
    created: float
    aliases: tuple[str, ...]
    verdict: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where an alias points: a version's number and the digest in its tags, None without one."""

    version: int
    digest: str | None

    def ref(self, name: str) -> ReleaseRef | None:
        """The release pointed to, or None when the version is not one."""
        return None if self.digest is None else ReleaseRef(name, self.version, self.digest)


class Registry:
    """MLflow's registry at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: MlflowClient | None = None

    def register(
        self,
        manifest: Manifest,
        *,
        bundle: str,
        run_id: str | None = None,
        links: Mapping[str, str] | None = None,
    ) -> tuple[ReleaseRef, bool]:
        """Give a release its version number; the same digest gets the same number again.

        Args:
            bundle: URL of the bundle store that holds it.
            run_id: the MLflow run it came from; a run is made when there is none.
            links: what the page links to, name → URL.

        Returns:
            The release and whether it is new.
        """
        known = self.find(manifest.name, manifest.digest)
        if known is not None:
            return known, False
        self._ask(lambda client: _ensure_model(client, manifest), manifest.name)
        source, run = self._log_manifest(manifest, run_id)
        tags = {_DIGEST: manifest.digest, _KIND: manifest.kind, _BUNDLE: bundle}
        version = self._ask(
            lambda client: client.create_model_version(
                manifest.name,
                source=source,
                run_id=run,
                tags=tags,
                description=release_page(manifest, links=links or {}),
                await_creation_for=0,
            ),
            manifest.name,
        )
        return ReleaseRef(manifest.name, int(version.version), manifest.digest), True

    def find(self, name: str, digest: str) -> ReleaseRef | None:
        """The lowest version of `name` with this digest."""
        same = [item.ref for item in self.versions(name) if item.ref.digest == digest]
        return min(same, default=None)

    def versions(self, name: str) -> list[Registered]:
        """Every release of a model, oldest first; empty when the model is unknown."""
        found = self._ask(
            lambda client: client.search_model_versions(f"name = '{name}'", max_results=1000), name
        )
        aliases = self._aliases(name) if found else {}
        items = [_registered(version, aliases) for version in found if _DIGEST in version.tags]
        return sorted(items, key=lambda item: item.ref.version)

    def ref(self, name: str, version: int) -> ReleaseRef:
        """The release with this number.

        Raises:
            NotFound: no such version, or one that is not a release of proa.
        """
        found = self._ask(lambda client: client.get_model_version(name, str(version)), name)
        digest = found.tags.get(_DIGEST)
        if digest is None:
            raise NotFound(
                f"{name}/{version} in MLflow is not a release of proa (no {_DIGEST} tag)"
            )
        return ReleaseRef(name, version, digest)

    def alias(self, name: str, alias: str) -> ReleaseRef | None:
        """The release an alias points to, or None when the alias or the model is not there."""
        try:
            found = self._ask(lambda client: client.get_model_version_by_alias(name, alias), name)
        except (NotFound, InvalidInput):
            return None
        digest = found.tags.get(_DIGEST)
        return ReleaseRef(name, int(found.version), digest) if digest else None

    def pointers(self, name: str) -> dict[str, Pointer]:
        """Where each alias of a model points; empty when the model is unknown."""
        try:
            model = self._ask(lambda client: client.get_registered_model(name), name)
        except NotFound:
            return {}
        found = {}
        for alias, version in model.aliases.items():
            digest = self.digest(name, int(version))
            found[alias] = Pointer(int(version), digest)
        return found

    def digest(self, name: str, version: int) -> str | None:
        """The digest a version carries; None when there is no such version, or it has none."""
        try:
            return self.ref(name, version).digest
        except NotFound:
            return None

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; harmless when it is not there."""
        try:
            self._ask(lambda client: client.delete_registered_model_alias(name, alias), name)
        except NotFound:
            return

    def set_alias(self, ref: ReleaseRef, alias: str) -> None:
        """Point an alias at a release."""
        self._ask(
            lambda client: client.set_registered_model_alias(ref.name, alias, str(ref.version)),
            ref.short,
        )

    def tell(self, ref: ReleaseRef, manifest: Manifest, story: Mapping[str, str]) -> None:
        """Rewrite the release's page with what happened since: verdict, promotions, run links."""
        page = release_page(manifest, links={}, story=story)
        self._ask(
            lambda client: client.update_model_version(ref.name, str(ref.version), page), ref.short
        )
        if "verdict" in story:
            self._ask(
                lambda client: client.set_model_version_tag(
                    ref.name, str(ref.version), _VERDICT, story["verdict"]
                ),
                ref.short,
            )

    def run_page(self, run_id: str) -> str | None:
        """The address of a run's page in MLflow, or None for an unknown run."""
        try:
            run = self._ask(lambda client: client.get_run(run_id), run_id)
        except NotFound:
            return None
        return f"{self._url}/#/experiments/{run.info.experiment_id}/runs/{run_id}"

    def _aliases(self, name: str) -> dict[str, list[str]]:
        model = self._ask(lambda client: client.get_registered_model(name), name)
        found: dict[str, list[str]] = {}
        for alias, version in model.aliases.items():
            found.setdefault(str(version), []).append(alias)
        return found

    def _log_manifest(self, manifest: Manifest, run_id: str | None) -> tuple[str, str]:
        def log(client: MlflowClient) -> tuple[str, str]:
            run = client.get_run(run_id) if run_id else _new_run(client, manifest)
            folder = f"release-{manifest.digest.removeprefix('sha256:')[:12]}"
            with tempfile.TemporaryDirectory() as temporary:
                path = Path(temporary) / MANIFEST
                path.write_bytes(manifest.canonical())
                client.log_artifact(run.info.run_id, str(path), folder)
            return f"{run.info.artifact_uri}/{folder}", run.info.run_id

        return self._ask(log, manifest.name)

    def _ask(self, call: Callable[[MlflowClient], _T], what: str) -> _T:
        """Call MLflow; its exceptions end here. A clash of two creates is tried again."""
        from mlflow.exceptions import MlflowException, RestException

        for attempt in range(5):
            try:
                return call(self._connect())
            except RestException as error:
                if attempt < 4 and _is_clash(error):
                    time.sleep(0.05 * 2**attempt)
                    continue
                raise _translate(error, what) from error
            except MlflowException as error:
                raise Unavailable(
                    f"MLflow at {self._url} did not answer: {str(error)[:200]}",
                    hint="proa status",
                ) from error
        raise Unavailable(f"MLflow: {what}: too many clashes")

    def _connect(self) -> MlflowClient:
        if self._client is None:
            prepare_mlflow()
            from mlflow import MlflowClient

            self._client = MlflowClient(self._url, self._url)
        return self._client


def prepare_mlflow() -> None:
    """Settle MLflow's manners in this process; call it before MLflow is first asked."""
    for name, value in _MANNERS.items():
        os.environ.setdefault(name, value)
    _keep_feast_out()


def _keep_feast_out() -> None:
    """Call it before MLflow is first asked: it would import Feast, four seconds of a core.

    Feast registers a plug-in that adds a token to MLflow's requests, which only Feast's own MLflow
    data source sets; MLflow loads every such plug-in with its first request.
    """
    import importlib
    import sys

    from mlflow.utils import plugins

    registry = "mlflow.tracking.request_header.registry"
    if registry in sys.modules:
        return
    every = plugins.get_entry_points
    plugins.get_entry_points = lambda group: [e for e in every(group) if e.name != "feast"]
    try:
        importlib.import_module(registry)
    finally:
        plugins.get_entry_points = every


def _ensure_model(client: MlflowClient, manifest: Manifest) -> None:
    from mlflow.exceptions import RestException

    try:
        client.create_registered_model(
            manifest.name, tags={_KIND: manifest.kind}, description=manifest.description
        )
    except RestException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _new_run(client: MlflowClient, manifest: Manifest) -> Any:
    experiment = client.get_experiment_by_name(manifest.name)
    experiment_id = (
        experiment.experiment_id if experiment else client.create_experiment(manifest.name)
    )
    run = client.create_run(experiment_id, run_name=f"{manifest.name} release")
    client.set_terminated(run.info.run_id)
    return run


def _registered(version: ModelVersion, aliases: Mapping[str, list[str]]) -> Registered:
    return Registered(
        ref=ReleaseRef(version.name, int(version.version), version.tags[_DIGEST]),
        kind=version.tags.get(_KIND, "classic"),
        created=version.creation_timestamp / 1000,
        aliases=tuple(sorted(aliases.get(str(version.version), []))),
        verdict=version.tags.get(_VERDICT),
        run_id=version.run_id,
    )


def _is_clash(error: Any) -> bool:
    text = str(error)
    return "IntegrityError" in text or "database is locked" in text or "UNIQUE" in text


def _translate(error: Any, what: str) -> ProaError:
    code = error.error_code
    message = f"MLflow: {what}: {str(error)[:300]}"
    if code == "RESOURCE_DOES_NOT_EXIST":
        return NotFound(message)
    if code == "RESOURCE_ALREADY_EXISTS":
        return Conflict(message)
    if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
        return InvalidInput(message)
    return Unavailable(message)
