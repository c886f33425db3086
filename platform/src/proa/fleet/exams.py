"""`gate`: candidate and champion sit the exam."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.embedded.files import read_json
from proa.errors import Conflict, NotFound
from proa.fleet.releases import Releases
from proa.release.reference import ReleaseRef

if TYPE_CHECKING:
    from proa.exam.exam import Exam
    from proa.exam.runner import Side
    from proa.exam.verdict import Verdict

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, how many there are."""


class Exams(Releases):
    """Verbs about exams and verdicts."""

    def exam_of(self, name: str, project: Path | None = None) -> Exam:
        """The exam of a model: of `project`, or of the project it was created from here.

        Raises:
            NotFound: it was not created here and no project is given.
        """
        from proa.exam.exam import load

        if project is not None:
            return load(project)
        path = self._home().projects / f"{name}.json"
        if not path.exists():
            raise NotFound(f"no project of {name} is known here", hint="proa gate … --exam FOLDER")
        return load(Path(read_json(path)["folder"]))

    def gate(self, ref: ReleaseRef, exam: Exam, *, progress: Progress | None = None) -> Verdict:
        """Let candidate and champion sit the exam through the gateway; journal the verdict.

        Raises:
            Conflict: the challenger slot is taken.  Refused: the release does not start.
        """
        from proa.exam.runner import hold

        slot = self._controller("POST", f"/v1/models/{ref.name}/gate", {"release": str(ref)})
        path = f"/v1/models/{ref.name}/gate/{slot['slot']}"
        try:
            with ExitStack() as stack:
                champion = slot["champion"]
                evidence = hold(
                    exam,
                    model=ref.name,
                    runtime=slot["runtime"],
                    candidate=self._side(ref, "challenger", stack),
                    champion=champion and self._side(ReleaseRef.parse(champion), "champion", stack),
                    progress=progress,
                )
            body = {"slot": slot["slot"], "evidence": evidence}
            journaled = self._controller("POST", f"/v1/models/{ref.name}/verdicts", body)
        finally:
            self._controller("DELETE", path)
        return self._keep_verdict(ref, evidence, journaled)

    def _side(self, ref: ReleaseRef, track: str, stack: ExitStack) -> Side:
        from proa.exam.asking import GatewayAsk
        from proa.exam.runner import Side

        ask = GatewayAsk(
            url=self.endpoints.gateway,
            key=self._key,
            model=ref.name,
            track=track,
            release=str(ref),
        )
        return Side(ref.digest, stack.enter_context(ask))

    def _keep_verdict(
        self, ref: ReleaseRef, evidence: Mapping[str, Any], journaled: Mapping[str, Any]
    ) -> Verdict:
        """Put the verdict on the release's page and its evidence into an MLflow run.

        Raises:
            Conflict: the controller, from the same evidence, came to another verdict.
        """
        from proa.exam.runner import MlflowLog
        from proa.exam.verdict import judge

        verdict = judge(evidence)
        if verdict.value != journaled["value"]:
            raise Conflict(
                f"{ref.short}: this machine's verdict is {verdict.value}, the controller's is "
                f"{journaled['value']}: their versions of proa or NumPy differ"
            )
        run_id = MlflowLog(self.endpoints.mlflow).record(evidence, verdict)
        page = self.registry.run_page(run_id)
        story = {"verdict": verdict.value, "because": verdict.reason, "exam": f"[{page}]({page})"}
        self.registry.tell(ref, self.manifest(ref), story)
        return verdict
