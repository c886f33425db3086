"""Why a release may not be rolled out: a closed set of codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proa.errors import Refused


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means, for people, and whether an override may go over it."""

    meaning: str
    overridable: bool = True


CODES: Mapping[str, Code] = {
    "ReleaseUnknown": Code("no such release was created here", overridable=False),
    "BundleBroken": Code("its bundle is missing or damaged", overridable=False),
    "HeldByUndo": Code("asked for by alias before the undo or rollback that came last"),
    "Revoked": Code("the digest was revoked and never runs again", overridable=False),
    "GateMissing": Code("no verdict in the journal"),
    "GateFailed": Code("the latest verdict is fail"),
    "GateInconclusive": Code("the latest verdict is inconclusive"),
    "GateStale": Code("the verdict is about another champion, runtime or exam"),
    "ExamLoosened": Code("the exam was loosened and no second person has approved that"),
    "SmokeMissing": Code("the verdict came from elsewhere and no smoke exam was sat here"),
    "SmokeFailed": Code("the smoke exam failed here"),
    "EngineMissing": Code("its engine is not running", overridable=False),
    "ApprovalMissing": Code("the project asks for an approval and there is none"),
    "ApprovalStale": Code("the approval is about another verdict"),
    "SamePerson": Code("who approves must be neither its maker nor who asks"),
    "Frozen": Code("a freeze window of the project or the platform is in force"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason: the sentence, and the command that mends it."""

    code: str
    message: str
    hint: str

    def error(self) -> Refused:
        """As it is raised."""
        return Refused(self.message, hint=self.hint, code=self.code)

    def to_json(self) -> dict[str, Any]:
        """As a dry run reports it."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "overridable": CODES[self.code].overridable,
        }
