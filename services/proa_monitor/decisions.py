"""The controller's journal, read for the story of a model; this process never writes a line."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proa.errors import ProaError
from proa.ledger.journal import Line
from proa.ledger.open import Ledger
from proa_monitor.story import ACTIONS

__all__ = ["Decisions"]

MOST: Final = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decisions:
    """Lines of the journal.

    Args:
        file: where the journal is when it is a file; None when the ledger's server has it.
    """

    ledger: Ledger
    file: Path | None

    def of(self, model: str) -> tuple[list[Line], list[str]]:
        """The newest lines about a model, oldest first, and why there are none.

        Asks the database: not for the event loop.
        """
        if self.file is not None and not self.file.exists():
            return [], ["decisions are not shown: this monitor reaches no journal"]
        try:
            lines = self.ledger.journal.lines(model, actions=tuple(ACTIONS), limit=-1)
        except ProaError as error:
            _log.warning("no decisions for the page: %s", error.message)
            return [], [f"decisions are not known now: {error.message}"]
        return lines[-MOST:], []
