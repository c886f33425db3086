"""The challenger slot while a gate holds it: signs of life, and giving it back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from proa.errors import Conflict, ProaError
from proa.release.reference import ReleaseRef

Ask = Callable[..., Any]
"""`(method, path, body=None)` to the controller."""
BEAT_SECONDS: Final = 15.0


class HeldSlot:
    """A gate's slot. A thread says every `BEAT_SECONDS` that the gate is alive.

    A gate that dies stops saying so, and the controller frees the slot two minutes later; run
    again before that, it names the slot it held and has it back at once.

    Args:
        held: the slot an interrupted run of this gate held, or None.
    """

    def __init__(self, ask: Ask, ref: ReleaseRef, held: str | None) -> None:
        self._ask, self._ref = ask, ref
        body = {"release": str(ref), **({"slot": held} if held else {})}
        answer = ask("POST", f"/v1/models/{ref.name}/gate", body)
        self.id: str = answer["slot"]
        self.champion: ReleaseRef | None = (
            None if answer["champion"] is None else ReleaseRef.parse(answer["champion"])
        )
        self.runtime: str = answer["runtime"]
        self._lost: Conflict | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="slot", daemon=True)
        self._thread.start()

    def __enter__(self) -> HeldSlot:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._ask("DELETE", self._path)

    def check(self) -> None:
        """Raise `Conflict` when the slot was lost: what is asked now, nobody may use."""
        if self._lost is not None:
            raise Conflict(
                f"{self._ref.short}: the gate lost the challenger slot: {self._lost.message}",
                hint=f"proa gate {self._ref.short} (answers already received are kept)",
                code="slot_lost",
            )

    @property
    def _path(self) -> str:
        return f"/v1/models/{self._ref.name}/gate/{self.id}"

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._ask("PUT", self._path, {})
            except Conflict as error:
                self._lost = error
                return
            except ProaError:
                continue  # the controller is away; its own clock decides
