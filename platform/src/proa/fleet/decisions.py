"""`approve revoke unrevoke revoked verify`, and what the journal tells: `at`, `why`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.errors import NotFound
from proa.fleet.rollouts import Rollouts
from proa.release.reference import ReleaseRef
from proa.rollout.record import Record
from proa.rollout.story import why
from proa.rollout.timeline import Moment, at


class Decisions(Rollouts):
    """Verbs of people who decide, and of those who ask later."""

    def approve(self, ref: ReleaseRef, *, reason: str) -> dict[str, Any]:
        """Approve a release with the verdict it has now; who made or asked for it cannot."""
        body = {"release": str(ref), "reason": reason}
        return dict(self._controller("POST", f"/v1/models/{ref.name}/approve", body))

    def approve_exam(self, name: str, exam: str | None = None, *, reason: str) -> dict[str, Any]:
        """Let a looser exam be the model's; `exam` is the beginning of its digest, when several
        wait."""
        body = {"exam": exam or "", "reason": reason}
        return dict(self._controller("POST", f"/v1/models/{name}/approve", body))

    def approve_rules(self, name: str, *, reason: str) -> dict[str, Any]:
        """Let the looser rules that a project gave in be in force."""
        body = {"rules": True, "reason": reason}
        return dict(self._controller("POST", f"/v1/models/{name}/approve", body))

    def revoke(self, ref: ReleaseRef, *, reason: str) -> dict[str, Any]:
        """Never let this digest run again; a champion gives way to the last good release."""
        body = {"digest": ref.digest, "reason": reason}
        return dict(self._controller("POST", f"/v1/models/{ref.name}/revoke", body))

    def unrevoke(self, ref: ReleaseRef, *, reason: str) -> dict[str, Any]:
        """Take a revocation back; it needs another person than who revoked."""
        body = {"digest": ref.digest, "reason": reason}
        return dict(self._controller("POST", f"/v1/models/{ref.name}/unrevoke", body))

    def revoked(self) -> list[dict[str, Any]]:
        """Every revoked release, with who and why."""
        return list(self._controller("GET", "/v1/revoked")["revoked"])

    def by_digest(self, digest: str) -> ReleaseRef:
        """The release of a digest, found in its own manifest and the model's journal.

        Raises:
            NotFound: no such release is known.
        """
        name = self.bundles.manifest(digest).name
        for line in self.history(name):
            if line["action"] == "created" and line["release"].endswith(digest):
                return ReleaseRef.parse(line["release"])
        raise NotFound(f"{name} has no release {digest}", hint=f"proa history {name}")

    def exam_changes(self, before: ReleaseRef, after: ReleaseRef) -> dict[str, list[str]]:
        """How the exams differ by which two releases were judged: `loosened` and `tightened`, one
        sentence each; both empty when they are the same, or one was not judged."""
        from proa.exam.loosening import loosened

        record = Record().add(self.history(after.name))
        exams = [record.verdicts.get(ref.digest) for ref in (before, after)]
        found = [
            record.summaries.get(line["details"]["exam"]) for line in exams if line is not None
        ]
        one, two = (found[0], found[-1]) if len(found) == 2 else (None, None)
        if one is None or two is None:
            return {"loosened": [], "tightened": []}
        return {"loosened": loosened(one, two), "tightened": loosened(two, one)}

    def verify_journal(self, head: str | None = None) -> dict[str, Any]:
        """Check the journal's hash chain and its end; `head` is one noted before.

        Raises:
            Conflict: a line was changed, lost or moved.
        """
        path = "/v1/journal/verify" + ("" if head is None else f"?head={head}")
        return dict(self._controller("GET", path))

    def history_at(self, name: str, when: datetime) -> Moment:
        """What ran at a moment and why, from the journal alone.

        Raises:
            NotFound: the model is not known.
        """
        return at(self._lines_of(name), when)

    def why(self, name: str) -> list[str]:
        """The story of the last change, in sentences, from the journal alone.

        Raises:
            NotFound: the model is not known.
        """
        return why(self._lines_of(name))

    def _lines_of(self, name: str) -> list[dict[str, Any]]:
        lines = self.history(name)
        if not lines:
            self.status(name)  # names the models that are known
        return lines
