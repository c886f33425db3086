"""`gate` and `verdict`: candidate and champion sit the exam, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.embedded.files import read_json, write_json
from proa.errors import Conflict, NotFound, ProaError
from proa.fleet.judging import Judging
from proa.fleet.slot import HeldSlot
from proa.release.canonical import parse_json
from proa.release.reference import ReleaseRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proa.exam.answers_file import AnswersFile
    from proa.exam.cost import Cost
    from proa.exam.exam import Exam
    from proa.exam.judge import EngineJudge
    from proa.exam.sitting import Side
    from proa.exam.verdict import Verdict

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, how many there are."""
Say = Callable[[str], None]
"""Called with a sentence for people."""
_UNLOGGED = ".unlogged.json"


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Judged:
    """The newest verdict on a release.

    Attributes:
        line: of the journal; its `details` are the verdict.
        evidence: None when the controller no longer has it.
    """

    line: Mapping[str, Any]
    evidence: Mapping[str, Any] | None

    @property
    def verdict(self) -> Mapping[str, Any]:
        """As `Verdict.to_json`."""
        found: Mapping[str, Any] = self.line["details"]
        return found


class Exams(Judging):
    """Verbs about exams and verdicts."""

    def exam_of(self, name: str, project: Path | None = None) -> Exam:
        """The exam of a model: of `project`, or of the project it was created from here.

        Raises:
            NotFound: it was not created here and no project is given.
        """
        from proa.exam.exam import load

        if project is not None:
            return load(project)
        path = None if self.home is None else self.home.projects / f"{name}.json"
        if path is None or not path.exists():
            raise NotFound(f"no project of {name} is known here", hint="proa gate … --exam FOLDER")
        return load(Path(read_json(path)["folder"]))

    def gate(
        self,
        ref: ReleaseRef,
        exam: Exam,
        *,
        progress: Progress | None = None,
        say: Say = _silent,
        budget: float | None = None,
        early: bool = True,
    ) -> Verdict:
        """Let candidate and champion sit the exam through the gateway; journal the verdict.

        A gate that was killed goes on with the answers it already has when it is run again here.

        Args:
            say: told the cost before it is spent, what was kept of an earlier run, and how long
                MLflow took.
            budget: refuse before the first question when it would cost more.
            early: end an exam of golden tasks as soon as it is lost.

        Raises:
            Conflict: the challenger slot is taken, or was lost.
            Refused: the release does not start, or the exam costs more than the budget.
        """
        champion = self._champion_of(ref.name)
        with self._answers(ref, exam, champion) as answers:
            cost = self.cost_of(ref, exam, champion=champion, answers=answers)
            say(f"cost: {cost}")
            if budget is not None:
                cost.check(budget)
            if answers is not None and answers.resumed:
                say(f"an earlier run was interrupted: {answers.resumed:,} answers are kept")
            evidence, journaled = self._held(
                ref, exam, champion, answers=answers, progress=progress, early=early
            )
            if answers is not None:
                answers.discard()
        return self._keep_verdict(ref, exam, evidence, journaled, say)

    def _held(
        self,
        ref: ReleaseRef,
        exam: Exam,
        champion: ReleaseRef | None,
        *,
        answers: AnswersFile | None,
        progress: Progress | None,
        early: bool,
    ) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Hold the exam in the slot; the evidence and what the controller made of it."""
        from proa.exam.loosening import task_digests
        from proa.exam.runner import hold

        held = None if answers is None else answers.slot
        sides = [ref] if champion is None else [ref, champion]
        with ExitStack() as before:
            self._judged_by(exam, sides, before)  # minutes, the first time: before the slot is held
        with HeldSlot(self._controller, ref, held) as slot, ExitStack() as stack:
            if slot.champion != champion:
                raise Conflict(
                    f"{ref.name}: the champion changed while the gate began", hint="run it again"
                )
            if answers is not None:
                answers.keep_slot(slot.id)
            candidate, other, judged = self._sides(ref, champion, exam, stack)

            def watched(side: str, done: int, total: int) -> None:
                slot.check()
                if progress is not None:
                    progress(side, done, total)

            evidence = hold(
                exam,
                model=ref.name,
                runtime=slot.runtime,
                candidate=candidate,
                champion=other,
                progress=watched,
                answers=answers,
                early=early,
                leakage=self._leakage(ref, exam),
                selftest=self._selftest(ref),
                judge=judged,
            )
            slot.check()
            body = {"slot": slot.id, "evidence": evidence, "tasks": task_digests(exam)}
            return evidence, self._controller("POST", f"/v1/models/{ref.name}/verdicts", body)

    def _sides(
        self, ref: ReleaseRef, champion: ReleaseRef | None, exam: Exam, stack: ExitStack
    ) -> tuple[Side, Side | None, Mapping[str, Any] | None]:
        """Candidate and champion as they are asked, and what is known of the exam's judge."""
        sides = [ref] if champion is None else [ref, champion]
        judge, judged = self._judged_by(exam, sides, stack)
        candidate = self._side(ref, "challenger", exam, stack, judge)
        if champion is None:
            return candidate, None, judged
        return candidate, self._side(champion, "champion", exam, stack, judge), judged

    def _leakage(self, ref: ReleaseRef, exam: Exam) -> dict[str, Any]:
        """Whether the candidate was made from what it is examined on; from its own bundle."""
        from proa.exam.leakage import leakage

        return leakage(exam, self.manifest(ref), lambda path: self.bundles.read(ref.digest, path))

    def _selftest(self, ref: ReleaseRef) -> dict[str, Any] | None:
        """What a Ready process of ours has reproduced; a foreign image proves nothing to us."""
        manifest = self.manifest(ref)
        if manifest.selftest is None or manifest.runtime.kind == "image":
            return None
        cases = parse_json(self.bundles.read(ref.digest, manifest.selftest), what="selftest")
        return {"cases": len(cases["cases"]), "passed": True}

    def _champion_of(self, name: str) -> ReleaseRef | None:
        found = self._controller("GET", f"/v1/models/{name}")["champion"]
        return None if found is None else ReleaseRef.parse(found)

    @contextmanager
    def _answers(
        self, ref: ReleaseRef, exam: Exam, champion: ReleaseRef | None
    ) -> Iterator[AnswersFile | None]:
        """The file with this gate's answers; None for a fleet without a home."""
        from proa.exam.answers_file import AnswersFile

        if self.home is None:
            yield None
            return
        manifest = self.manifest(ref)
        identity = {
            "candidate": ref.digest,
            "champion": None if champion is None else champion.digest,
            "exam": exam.digest,
            "runtime": manifest.runtime.fingerprint(),
            "engine": None if manifest.llm is None else manifest.llm.engine.identity,
        }
        answers = AnswersFile.open(self.home.exams, model=ref.name, identity=identity)
        try:
            yield answers
        finally:
            answers.close()

    def _side(
        self,
        ref: ReleaseRef,
        track: str,
        exam: Exam,
        stack: ExitStack,
        judge: EngineJudge | None = None,
    ) -> Side:
        from proa.exam.asking import GatewayAsk
        from proa.exam.sitting import Side

        ask = GatewayAsk(
            url=self.endpoints.gateway,
            key=self._key,
            model=ref.name,
            track=track,
            release=str(ref),
            stream=exam.measures_ttft,
        )
        return Side(ref.digest, stack.enter_context(ask), self._aids(ref, exam, judge, stack))

    # Cost

    def cost_of(
        self,
        ref: ReleaseRef,
        exam: Exam,
        *,
        champion: ReleaseRef | None,
        answers: AnswersFile | None = None,
    ) -> Cost:
        """What the exam will ask, take and cost, for both sides."""
        from proa.exam.cost import estimate_rows, estimate_tasks, tokens_of

        platform = self._facts()
        currency = "" if platform is None else platform.currency
        manifests = [self.manifest(side) for side in (ref, champion) if side is not None]
        kept = 0 if answers is None else answers.resumed
        spec = manifests[0].llm
        if spec is None:
            micro = None if platform is None else platform.prices.get("classic_call_micro")
            return estimate_rows(
                exam, sides=len(manifests), kept=kept, micro_per_call=micro, currency=currency
            )
        before = self._last_evidence(ref.name)
        parts = spec.context
        most = parts.system + parts.retrieved + parts.history + parts.question
        engines = {} if platform is None else platform.engines
        found = [engines.get(item.llm.engine.identity) for item in manifests if item.llm]
        prices = [
            (
                engine["prices"]["input_per_million_micro"] / 1e12,
                engine["prices"]["output_per_million_micro"] / 1e12,
            )
            for engine in found
            if engine is not None and engine.get("prices")
        ]
        return estimate_tasks(
            exam,
            tokens=tokens_of(before, most=(most, spec.sampling.max_tokens)),
            prices=prices if len(prices) == len(manifests) else None,
            sides=len(manifests),
            kept=kept,
            currency=currency,
            before=before,
        )

    def _last_evidence(self, name: str) -> Mapping[str, Any] | None:
        path = f"/v1/models/{name}/history"
        lines = [line for line in self._controller("GET", path)["lines"] if _is_verdict(line)]
        return self._evidence(lines[-1]["details"]["evidence"]) if lines else None

    def _evidence(self, digest: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._controller("GET", f"/v1/evidence/{digest}")
        except NotFound:
            return None
        return found

    # Verdicts

    def verdict(self, ref: ReleaseRef) -> Judged:
        """The newest verdict on a release, with its evidence; nothing is asked again.

        Raises:
            NotFound: it was never judged.
        """
        path = f"/v1/models/{ref.name}/history"
        lines = [
            line
            for line in self._controller("GET", path)["lines"]
            if _is_verdict(line) and line["release"] == str(ref)
        ]
        if not lines:
            raise NotFound(
                f"{ref.short} was never judged", hint=f"proa gate {ref.short}", code="not_judged"
            )
        return Judged(lines[-1], self._evidence(lines[-1]["details"]["evidence"]))

    def _keep_verdict(
        self,
        ref: ReleaseRef,
        exam: Exam,
        evidence: Mapping[str, Any],
        journaled: Mapping[str, Any],
        say: Say,
    ) -> Verdict:
        """Show verdict and evidence in MLflow; what MLflow does not take now is kept for later.

        Raises:
            Conflict: the controller, from the same evidence, came to another verdict.
        """
        from proa.exam.verdict import judge

        verdict = judge(evidence)
        if verdict.value != journaled["value"]:
            raise Conflict(
                f"{ref.short}: this machine's verdict is {verdict.value}, the controller's is "
                f"{journaled['value']}: their versions of proa or NumPy differ"
            )
        if self._log(ref, evidence, verdict, say, exam=exam):
            self._log_left_over(say)
        elif self.home is not None:
            write_json(
                self.home.exams / f"{verdict.evidence[7:23]}{_UNLOGGED}",
                {"release": str(ref), "evidence": verdict.evidence},
            )
        return verdict

    def _log(
        self,
        ref: ReleaseRef,
        evidence: Mapping[str, Any],
        verdict: Verdict,
        say: Say,
        *,
        exam: Exam | None = None,
    ) -> bool:
        """Write the runs and the release's page; whether that worked."""
        from proa.exam.mlflow_log import MlflowLog

        began = time.monotonic()
        try:
            names = self._names(ref, evidence)
            run_id = MlflowLog(self.endpoints.mlflow).record(
                evidence, verdict, exam=exam, names=names
            )
        except ProaError as error:  # the verdict is in the journal, whatever MLflow says
            say(
                f"MLflow did not take the exam of {ref.short}: {error.message[:160]}; the verdict "
                "is in the journal, and the next gate shows this one too"
            )
            return False
        try:
            page = self.registry.run_page(run_id)
            link = f"[{page}]({page})"
            story = {"verdict": verdict.value, "because": verdict.reason, "exam": link}
            self.registry.tell(ref, self.manifest(ref), story)
            say(f"MLflow: {page} ({time.monotonic() - began:.1f} s)")
        except ProaError as error:
            say(f"the page of {ref.short} in MLflow could not be rewritten: {error.message[:160]}")
        return True

    def _names(self, ref: ReleaseRef, evidence: Mapping[str, Any]) -> dict[str, str]:
        known = {item.ref.digest: item.ref.short for item in self.registry.versions(ref.name)}
        champion = evidence["champion"]
        names = {"candidate": ref.short}
        return names if champion is None else {**names, "champion": known.get(champion, "champion")}

    def _log_left_over(self, say: Say) -> None:
        """Write what MLflow did not take from earlier gates, as far as it takes it now."""
        from proa.exam.verdict import judge

        if self.home is None:
            return
        for path in sorted(self.home.exams.glob(f"*{_UNLOGGED}")):
            value = read_json(path)
            evidence = self._evidence(value["evidence"])
            ref = ReleaseRef.parse(value["release"])
            if evidence is None or self._log(ref, evidence, judge(evidence), say):
                path.unlink(missing_ok=True)


def _is_verdict(line: Mapping[str, Any]) -> bool:
    return line["action"] == "judged" and "evidence" in line["details"]
