"""`create --on cluster` and `retrain`: runs on Kubeflow Pipelines, and why they were asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from proa.embedded.files import read_json
from proa.errors import Conflict, NotFound
from proa.fleet.preset import Preset
from proa.fleet.releases import Releases
from proa.project.retrain import RetrainSection
from proa.retraining.rules import parse_section
from proa.retraining.windows import shift

Say = Callable[[str], None]


def _silent(_: str) -> None:
    pass


class Pipelines(Releases):
    """Verbs that start runs somewhere else, or for a reason."""

    def submit(
        self,
        project: Path | str,
        *,
        overrides: Mapping[str, str] | None = None,
        until: str = "register",
        every: str | None = None,
        wait: bool = True,
        cause: Mapping[str, str] | None = None,
        on_line: Say = _silent,
    ) -> dict[str, Any]:
        """Run a project's pipeline on Kubeflow Pipelines.

        Args:
            project: its folder, which is packed and goes to MLflow under its digest; or the name
                of a model, whose project as it was submitted last is run again.
            every: a cron expression: submit a recurring run instead; "none" ends the one there is.
            wait: until the run ended; its states are said.
            cause: `cause`, `requested_by`, `evidence`, which the run has as parameters.

        Returns:
            run, url, namespace, experiment, project (digest), state when waited for.

        Raises:
            Conflict: the platform file has no section `pipelines`.
            Unavailable, Unauthenticated, Forbidden, NotFound: what Kubeflow said.
            Refused: the run failed; the message names step and reason.
        """
        from proa.project.run import submit_pipeline

        preset = self._pipelines()
        return submit_pipeline(
            str(project),
            platform=preset.source,
            overrides=overrides or {},
            until=until,
            every=every,
            wait=wait,
            cause=cause or {},
            on_line=on_line,
        )

    def retrain(
        self,
        name: str,
        *,
        reason: str,
        cause: str = "asked",
        evidence: str = "",
        project: Path | None = None,
        labels_until: datetime | None = None,
        until: str = "gate",
        wait: bool = True,
        on_line: Say = _silent,
    ) -> dict[str, Any]:
        """Make a new release of a model for a reason; the journal says so before anything runs.

        Args:
            cause: one word: `asked`, `schedule`, or a finding's kind.
            evidence: where the reason can be looked up: a finding's id, a report's address.
            project: its folder; None is the project it was created from.
            labels_until: train on all but the fresh days before it, and sit the exam on those; None
                leaves both windows where proa.yaml has them.

        Returns:
            The run's result, with `asked`: the request's id in the journal.

        Raises:
            Forbidden: the key may not ask for rollouts.
        """
        if self.home is None:
            self._pipelines()  # before the journal says that a run was asked for
        folder = project or self._project_of(name)
        overrides = {} if labels_until is None else self._moved(name, labels_until)
        body = {"reason": reason, "cause": cause, "evidence": evidence}
        line = self._controller("POST", f"/v1/models/{name}/retraining", body)
        why = {"cause": f"{cause}: {reason}", "requested_by": line["who"], "evidence": evidence}
        if self._on_cluster():
            done = self.submit(
                folder or name,
                overrides=overrides,
                until=until,
                wait=wait,
                cause=why,
                on_line=on_line,
            )
        else:
            assert folder is not None
            done = self.create(folder, overrides=overrides, until=until, cause=why, on_line=on_line)
        return {**done, "asked": line["request"]}

    def _moved(self, name: str, labels_until: datetime) -> dict[str, str]:
        """Windows by the model's own rules of retraining, or by their defaults."""
        said = self._controller("GET", f"/v1/models/{name}/retraining")["section"]
        rules = parse_section(said or {}) or RetrainSection()
        return shift(labels_until, rules.fresh_days, rules.zone).overrides()

    def _on_cluster(self) -> bool:
        return self._preset is not None and self._preset.pipelines is not None

    def _project_of(self, name: str) -> Path | None:
        """The folder a model was created from on this machine; None on a cluster."""
        if self.home is None:
            return None
        path = self.home.projects / f"{name}.json"
        if path.exists():
            return Path(read_json(path)["folder"])
        if self._on_cluster():
            return None
        raise NotFound(
            f"no project of {name} is known here", hint=f"proa retrain {name} --project FOLDER"
        )

    def _pipelines(self) -> Preset:
        preset = self._preset
        if preset is None or preset.pipelines is None:
            where = "this platform" if preset is None else str(preset.source)
            raise Conflict(
                f"{where} names no Kubeflow Pipelines: expected a section `pipelines` with `url`",
                hint="proa create PROJECT without --on cluster runs it on this machine",
                code="no_pipelines",
            )
        return preset
