"""Requests for a new release: why, by whom, on what evidence; the run itself is not ours."""

from __future__ import annotations

import re
from typing import Any, Final

from proa.errors import InvalidInput
from proa.http.ids import new_id
from proa.rollout.machine import Entry
from proa.rollout.people import By
from proa_controller.decisions import Decisions

_CAUSE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class Retraining(Decisions):
    """Writes down that somebody, or a finding, asked for a new release of a model."""

    def ask_retraining(
        self, name: str, *, cause: str, evidence: str, who: str, reason: str, by: By
    ) -> dict[str, Any]:
        """Journal the request before anything runs.

        Args:
            cause: one word: `asked`, `schedule`, or a finding's kind.
            evidence: where the reason can be looked up.

        Returns:
            `request`, which the run can name, and `who`.

        Raises:
            NotFound: the model is not known.
            InvalidInput: `cause` is no word.
        """
        if not _CAUSE.fullmatch(cause):
            raise InvalidInput(
                f"cause = {cause!r}: expected one word, as asked, schedule or drift", param="cause"
            )
        request = new_id()
        details = {
            "request": request,
            "cause": cause,
            "evidence": evidence[:1000],
            "by": by.to_json(),
        }
        with self._lock:
            state = self._state(name)
            self._decide(state, Entry("retraining_asked", None, who, reason, details))
        return {"request": request, "who": who}
