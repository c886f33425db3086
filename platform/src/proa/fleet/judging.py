"""The judge of an exam, its agreement with people, and what else scoring needs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.embedded.files import read_json, write_json
from proa.errors import InvalidInput
from proa.fleet.releases import Releases
from proa.release.canonical import digest_json
from proa.release.reference import ReleaseRef

if TYPE_CHECKING:
    from proa.exam.agreement import Agreement
    from proa.exam.exam import Exam
    from proa.exam.judge import EngineJudge, Preference
    from proa.exam.scorers import Aids

Progress = Callable[[int, int], None]


class Judging(Releases):
    """Verbs about judges."""

    def judge_agreement(self, exam: Exam, *, progress: Progress | None = None) -> dict[str, Any]:
        """Hold the exam's judge against the answers that people labelled, and against pairs.

        Returns:
            The agreement with `engine`, `self_judged`, `decides` and `min_agreement`.

        Raises:
            InvalidInput: the exam names no judge.
            Unavailable: the platform has no engine.
        """
        with ExitStack() as stack:
            judge = self._judge(exam, (), stack)
            if judge is None:
                raise InvalidInput(
                    "the exam has no judge", hint="add `judge:` to exam.yaml", param="judge"
                )
            return self._agreement(exam, judge, progress=progress, fresh=True)

    def _judged_by(
        self, exam: Exam, sides: Sequence[ReleaseRef], stack: ExitStack
    ) -> tuple[EngineJudge | None, dict[str, Any] | None]:
        """The exam's judge and what the evidence says of it; neither where no task needs one."""
        if not any(task.expect.rubric is not None for task in exam.tasks):
            return None, None
        judge = self._judge(exam, sides, stack)
        if judge is None:
            return None, None
        facts = self._agreement(exam, judge, fresh=False)
        judge.decides = facts["decides"]
        return judge, facts

    def _judge(
        self, exam: Exam, sides: Sequence[ReleaseRef], stack: ExitStack
    ) -> EngineJudge | None:
        from proa.exam.judge import EngineJudge, choose_engine

        rules, platform = exam.rules.judge, self._facts()
        if rules is None or platform is None or not platform.endpoints.engine:
            return None
        manifests = [self.manifest(side) for side in sides]
        under_test = {item.llm.engine.identity for item in manifests if item.llm is not None}
        wanted = platform.aliases.get(rules.engine or "", rules.engine)
        judge = EngineJudge(
            url=platform.endpoints.engine,
            key=self._key,
            engine=choose_engine(platform.engines, under_test=under_test, wanted=wanted),
            under_test=under_test,
        )
        return stack.enter_context(judge)

    def _agreement(
        self,
        exam: Exam,
        judge: EngineJudge,
        *,
        progress: Progress | None = None,
        fresh: bool,
    ) -> dict[str, Any]:
        """Measured once for a judge, its instructions and the labels: sampling is greedy.

        Args:
            fresh: measure again, and let it choose between answers too, which no exam needs.
        """
        rules = exam.rules.judge
        assert rules is not None
        labels = [item.model_dump(mode="json") for item in exam.labelled]
        rule = rules.model_dump(mode="json", exclude={"min_agreement", "engine"})
        key = digest_json({"judge": judge.digest, "labels": labels, "rules": rule})
        file = None if self.home is None else self.home.exams / f"judge-{key[7:23]}.json"
        if fresh or file is None or not file.exists():
            found = self._measured(exam, judge, progress, pairs=fresh)
            known = found.to_json()
            whole = found.scored == found.labelled  # an engine that was away is asked again
            if file is not None and whole:
                file.parent.mkdir(mode=0o700, exist_ok=True)
                write_json(file, known)
        else:
            known = read_json(file)
        return {
            **known,
            "engine": judge.engine,
            "self_judged": judge.self_judged,
            "decides": _decides(known, rules.min_agreement),
            "min_agreement": rules.min_agreement,
        }

    def _measured(
        self, exam: Exam, judge: EngineJudge, progress: Progress | None, *, pairs: bool
    ) -> Agreement:
        from proa.exam.agreement import measure_agreement
        from proa.exam.scorers import Rubric

        rules = exam.rules.judge
        assert rules is not None
        rubric = Rubric(ask=rules.ask, min=rules.min)

        def prefer(question: str, good: str, bad: str) -> Preference | None:
            return judge.prefer(rubric=rubric, question=question, first=good, second=bad)

        return measure_agreement(
            exam.labelled,
            judge,
            rubric=rubric,
            prefer=prefer if pairs else None,
            progress=progress,
        )

    def _aids(
        self, ref: ReleaseRef, exam: Exam, judge: EngineJudge | None, stack: ExitStack
    ) -> Aids:
        """What scoring one side's answers needs, as far as the exam asks for it."""
        from proa.exam.aids import embed_for, passages_of
        from proa.exam.scorers import Aids

        platform = self._facts()
        weights = None if platform is None else platform.weights
        passages = None
        spec = self.manifest(ref).llm
        wanted = any(task.expect.grounded is not None for task in exam.tasks)
        if wanted and spec is not None and spec.retrieval is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proa-exam-")))
            index = folder / "index"
            index.write_bytes(self.bundles.read(ref.digest, spec.retrieval.index))
            passages = passages_of(index)
        return Aids(embed=embed_for(exam, weights), passages=passages, judge=judge)


def _decides(known: dict[str, Any], bound: float) -> bool:
    from proa.exam.agreement import Agreement

    return Agreement(**known).decides(bound)
