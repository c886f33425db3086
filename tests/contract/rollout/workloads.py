"""What every adapter of `proa.rollout.workloads.Workloads` must do, as tests over a `bench`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from proa.errors import Conflict, NotFound
from proa.release.reference import ReleaseRef
from proa.rollout.workloads import Deployed, Workloads
from tests.processes import wait_until


@dataclass
class Bench:
    """An adapter, and what a test needs to use it.

    Attributes:
        model: makes a new model that can run releases, and returns its name.
        template: a release as the template this adapter takes.
        seconds: how long a release may take to answer.
    """

    workloads: Workloads
    model: Callable[[], str]
    template: Callable[[ReleaseRef], Any]
    seconds: float

    def serve(self, name: str, ref: ReleaseRef) -> int:
        """Apply a release and wait until it answers."""
        after = self.workloads.status(name).generation
        generation = self.workloads.apply(name, self.template(ref), after=after)
        self.answers(name, ref)
        return generation

    def answers(self, name: str, ref: ReleaseRef) -> Deployed:
        def there() -> Deployed | None:
            status = self.workloads.status(name)
            return status if status.release == ref and status.ready else None

        return wait_until(there, self.seconds, every=0.1) or Deployed()


def ref_of(name: str, version: int) -> ReleaseRef:
    return ReleaseRef(name, version, "sha256:" + f"{version:064x}")


class WorkloadsContract:
    """One class per adapter inherits these and provides `bench`."""

    def test_an_unknown_one_is_nothing(self, bench: Bench) -> None:
        status = bench.workloads.status("nobody")
        assert (status.template_release, status.generation, status.release) == (None, 0, None)
        assert (status.ready, status.url, status.failed) == (False, None, None)
        bench.workloads.delete("nobody")
        with pytest.raises(NotFound):
            bench.workloads.undo("nobody")

    def test_what_is_applied_answers(self, bench: Bench) -> None:
        name = bench.model()
        ref = ref_of(name, 1)
        generation = bench.serve(name, ref)
        status = bench.workloads.status(name)
        assert (status.template_release, status.release) == (ref, ref)
        assert (status.generation, status.ready, status.stale) == (generation, True, False)
        assert status.url is not None
        assert generation > 0

    def test_the_same_again_changes_nothing(self, bench: Bench) -> None:
        name = bench.model()
        generation = bench.serve(name, ref_of(name, 1))
        again = bench.workloads.apply(name, bench.template(ref_of(name, 1)), after=generation)
        assert again == generation

    def test_the_old_one_answers_until_the_new_one_does(self, bench: Bench) -> None:
        name = bench.model()
        one, two = ref_of(name, 1), ref_of(name, 2)
        generation = bench.serve(name, one)
        assert bench.workloads.apply(name, bench.template(two), after=generation) != generation
        seen = []

        def replaced() -> bool:
            status = bench.workloads.status(name)
            seen.append((status.release, status.ready))
            return seen[-1] == (two, True)

        wait_until(replaced, bench.seconds, every=0.02)
        assert set(seen) <= {(one, True), (two, True)}, "somebody answered all the time"
        assert seen[0] == (one, True)

    def test_what_changed_since_it_was_seen_is_not_written_over(self, bench: Bench) -> None:
        name = bench.model()
        one, two, three = (ref_of(name, number) for number in (1, 2, 3))
        before = bench.serve(name, one)
        bench.serve(name, two)
        with pytest.raises(Conflict) as caught:
            bench.workloads.apply(name, bench.template(three), after=before)
        assert caught.value.code == "template_changed"
        assert bench.workloads.status(name).template_release == two

    def test_undo_is_the_one_before_and_twice_is_back(self, bench: Bench) -> None:
        name = bench.model()
        one, two = ref_of(name, 1), ref_of(name, 2)
        bench.serve(name, one)
        with pytest.raises(Conflict) as caught:
            bench.workloads.undo(name)
        assert caught.value.code == "no_history"
        generation = bench.serve(name, two)
        assert bench.workloads.undo(name) != generation
        bench.answers(name, one)
        bench.workloads.undo(name)
        bench.answers(name, two)

    def test_a_release_that_ends_is_told_with_a_reason_and_the_old_one_serves_on(
        self, bench: Bench
    ) -> None:
        name = bench.model()
        one, bad = ref_of(name, 1), ref_of(name, 901)
        generation = bench.serve(name, one)
        bench.workloads.apply(name, bench.template(bad), after=generation)
        status = wait_until(
            lambda: next((s for s in [bench.workloads.status(name)] if s.failed), None),
            bench.seconds + 120,
            every=0.2,
        )
        assert status is not None
        assert (status.release, status.ready) == (one, True)
        assert "78" in str(status.failed)

    def test_deleting_ends_it(self, bench: Bench) -> None:
        name = bench.model()
        bench.serve(name, ref_of(name, 1))
        bench.workloads.delete(name)
        bench.workloads.delete(name)
        wait_until(lambda: not bench.workloads.status(name).ready, bench.seconds, every=0.1)
        assert bench.workloads.status(name).template_release is None
