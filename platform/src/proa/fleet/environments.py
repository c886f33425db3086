"""`promote --to ENVIRONMENT`: a release and its verdict go to another platform."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from proa.embedded.environments import (
    Environment,
    add_environment,
    environment,
    read_environments,
)
from proa.embedded.home import Home
from proa.errors import Conflict, NotFound, Refused
from proa.fleet.exams import Exams
from proa.fleet.preset import Endpoints
from proa.fleet.rollouts import Rollouts
from proa.fleet.slot import HeldSlot
from proa.release.reference import ReleaseRef
from proa.release.transfer import copy_release
from proa.rollout.policy import Policy

if TYPE_CHECKING:
    from proa.exam.exam import Exam

Say = Callable[[str], None]


class Promotions(Exams, Rollouts):
    """Verbs between platforms."""

    def environments(self) -> dict[str, Environment]:
        """The other platforms that this one knows."""
        return read_environments(self._home("a list of environments"))

    def add_environment(self, new: Environment, *, replace: bool = False) -> None:
        """Make another platform known here; see `proa.embedded.environments`."""
        add_environment(self._home("a list of environments"), new, replace=replace)

    def there(self, name: str) -> Self:
        """The fleet of an environment, with the key that was given for it.

        Raises:
            NotFound: no such environment, or no platform there.
        """
        found = environment(self._home("promote --to"), name)
        if found.home is None:
            home, endpoints = None, Endpoints(**found.urls)
        else:
            home = Home(found.home)
            endpoints = Endpoints.of(home)
        path = found.key_file if home is None else found.key_file or home.key("admin")
        if path is None or not path.is_file():
            raise NotFound(f"environment {name}: there is no key in {path}")
        return type(self)(endpoints, path.read_text().strip(), home=home, person=self.person)

    def promote_to(
        self,
        ref: ReleaseRef,
        name: str,
        *,
        exam: Exam | None = None,
        reason: str = "",
        policy: Policy | Mapping[str, Any] | None = None,
        wait: bool = True,
        override: bool = False,
        say: Say = lambda text: None,
        progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Carry a judged release to another platform, try it there, and promote it there.

        The bundle goes by digest; the verdict goes with its evidence and is computed again there;
        a smoke exam is sat there beside that platform's own champion; that platform's own rules
        admit or refuse. Each part may be repeated.

        Args:
            exam: the model's exam; None is that of the project it was created from.

        Returns:
            The status there; `release` is its name there, with a number of that platform.

        Raises:
            Refused: it has no passing verdict here, or was refused there.
        """
        environment(self._home("promote --to"), name)  # a name that is not known costs nothing
        line, evidence = self._passing(ref)
        whole = exam or self.exam_of(ref.name)
        if line["details"]["exam"] != whole.digest:
            raise Refused(
                f"{ref.short} was judged by another exam than the project has now",
                hint=f"proa gate {ref.short}",
                code="GateStale",
            )
        with self.there(name) as there:
            moved = self._move(ref, there, say)
            source = {"environment": self._own_name(), "line": line}
            from proa.exam.loosening import task_digests

            body = {
                "release": str(moved),
                "evidence": evidence,
                "source": source,
                "tasks": task_digests(whole),
            }
            there._controller("POST", f"/v1/models/{ref.name}/carried", body)
            say(f"the verdict of {ref.short} was computed again in {name}: pass")
            there.smoke(moved, whole, say=say)
            status = there.promote(
                moved,
                reason=reason or f"promoted from {ref.short} of {self._own_name()}",
                policy=policy,
                wait=wait,
                override=override,
                progress=progress,
            )
            return {**status, "release": str(moved), "environment": name}

    def plan_to(self, ref: ReleaseRef, name: str) -> dict[str, Any]:
        """What `promote_to` would do, and what speaks against it as far as can be said before the
        smoke exam. Nothing is changed."""
        found: list[dict[str, Any]] = []
        try:
            self._passing(ref)
        except Refused as error:
            refusal = {"code": error.code, "message": error.message, "hint": error.hint}
            found.append({**refusal, "overridable": False})
        steps = [f"the bundle of {ref.short} goes to {name} by its digest",
                 "its verdict is computed again there from the evidence",
                 "a smoke exam is sat there"]  # fmt: skip
        with self.there(name) as there:
            known = next(
                (
                    item.ref
                    for item in there.registry.versions(ref.name)
                    if item.ref.digest == ref.digest
                ),
                None,
            )
            if known is not None:
                plan = there.promote(known, dry_run=True)["plan"]
                later = ("GateMissing", "GateStale", "SmokeMissing", "SmokeFailed")
                found += [item for item in plan["refusals"] if item["code"] not in later]
                steps += plan["steps"]
            else:
                steps.append("it is registered there and promoted by the rules there")
        return {
            "release": str(ref),
            "admitted": not found,
            "overridable": all(item["overridable"] for item in found),
            "refusals": found,
            "steps": steps,
        }

    def smoke(self, ref: ReleaseRef, exam: Exam, *, say: Say = lambda text: None) -> dict[str, Any]:
        """Let a release sit a sample of its exam here, beside the champion; journal the outcome.

        Raises:
            Refused: it does not start, or the smoke exam failed.
        """
        from proa.exam.runner import hold
        from proa.exam.smoke import smoke_exam

        sample = smoke_exam(exam)
        with HeldSlot(self._controller, ref, None) as slot, ExitStack() as stack:
            candidate, champion, judged = self._sides(ref, slot.champion, sample, stack)
            evidence = hold(
                sample,
                model=ref.name,
                runtime=slot.runtime,
                candidate=candidate,
                champion=champion,
                early=False,
                judge=judged,
            )
            slot.check()
            body = {"slot": slot.id, "evidence": evidence, "smoke": True}
            done = dict(self._controller("POST", f"/v1/models/{ref.name}/verdicts", body))
        say(f"smoke exam of {sample.size}: {done['reason']}")
        if not done["good"]:
            raise Refused(
                f"{ref.short}: the smoke exam failed: {done['reason']}",
                hint=f"proa history {ref.name}",
                code="SmokeFailed",
            )
        return done

    def _passing(self, ref: ReleaseRef) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The journal line of a passing verdict, and its evidence."""
        judged = self.verdict(ref)
        if judged.verdict["value"] != "pass":
            raise Refused(
                f"{ref.short}: the verdict is {judged.verdict['value']}: "
                f"{judged.verdict['reason']}",
                hint=f"proa gate {ref.short}",
                code="GateFailed",
            )
        if judged.evidence is None:
            raise Conflict(
                f"{ref.short}: the evidence of its verdict is no longer here",
                hint=f"proa gate {ref.short}",
            )
        return judged.line, judged.evidence

    def _move(self, ref: ReleaseRef, there: Promotions, say: Say) -> ReleaseRef:
        """The same digest over there: its bundle stored, registered, announced."""
        if not there.bundles.has(ref.digest):
            copy_release(ref.digest, self.bundles, there.bundles)
            say(f"the bundle of {ref.short} was copied: {ref.digest[:19]}…")
        manifest = there.bundles.manifest(ref.digest)
        moved, _ = there.registry.register(manifest, bundle=there.endpoints.bundles)
        reason = f"{ref.short} of {self._own_name()}"
        body: dict[str, Any] = {"release": str(moved), "reason": reason}
        if all(item["model"] != ref.name for item in there.models()):
            body["rollout"] = self.status(ref.name)["rules"]  # until it has rules of its own
        there._controller("POST", f"/v1/models/{ref.name}/releases", body)
        say(f"it is {moved.short} there")
        return moved

    def _own_name(self) -> str:
        return self.home.root.name if self.home is not None else self.endpoints.controller
