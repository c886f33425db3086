"""What a controller process is made of, whatever it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proa.ledger.keys import KeyStore
from proa.ledger.worklist import Worklist
from proa_controller.core import Controller
from proa_controller.findings import MonitorFindings
from proa_controller.runs import Runner
from proa_controller.watcher import Aliases

if TYPE_CHECKING:
    from proa.ledger.open import Ledger
    from proa_controller.leadership import Leadership

__all__ = ["Process"]


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Process:
    """Parts of one process, and what to do with them.

    Attributes:
        before: called before every tick; False leaves it out.
        start: begins what runs in threads of its own; given what to call when something changed.
        synced: whether those parts have seen everything once; before that it is not ready.
        close: ends it and gives everything back.
        findings, runner: what is retrained by, where runs go; None: nothing is by itself.
        worklist: bad answers of language models.
        leadership: who of several may act; None where there is only one.
        ledger: waited for before the process is ready; None where it is a file.
    """

    controller: Controller
    keys: KeyStore
    aliases: Aliases
    before: Callable[[], bool]
    start: Callable[[Callable[[], None]], None] = field(default=lambda _: None)
    synced: Callable[[], bool] = field(default=lambda: True)
    close: Callable[[], None] = _nothing
    findings: MonitorFindings | None = None
    runner: Runner | None = None
    worklist: Worklist | None = None
    leadership: Leadership | None = None
    ledger: Ledger | None = None
